"""Certificates: how many bits of a code an attack can flip at most, and how low MAP can fall by that."""
