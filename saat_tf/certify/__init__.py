"""Certificates: how many bits of a code an attack can flip at most, and how low MAP can fall by that."""

from saat_tf.certify.certificate import Certificate, CertifiedMap, certified_map, certify

__all__ = ["Certificate", "CertifiedMap", "certified_map", "certify"]
