"""The encoder that a program exports: of a finished run, of a preset, or of a .keras file."""

import dataclasses
from pathlib import Path

from export.encoder.model_card import Model, model_card, own_card
from saat_tf.models import HashingModel
from saat_tf.models.preset_files import CARD, WEIGHTS, preset_folder
from saat_tf.strict_json import read_object
from trainers.run_folder.models import load_encoder_file

ONE_OF = "One of --run-dir, --preset and --keras-file must name the encoder."


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderSource:
    """Options of the programs that export an encoder: where it comes from, one of three."""

    run_dir: Path | None = None
    """Folder of a finished run."""
    model: Model = "robust"
    """Of the run, the adversarially trained encoder, or the undefended one."""
    preset: str | None = None
    """Name of a preset in the package, such as scenes_32bits_saat_strong; or a folder that HashingModel.save_to_preset
    or python -m export.from_torch wrote."""
    keras_file: Path | None = None
    """A .keras file of a HashingModel, as `save` writes it. It runs no code: layers of your own must be of registered
    classes of an installed package, otherwise export from Python."""
    resize_size: int | None = None
    """Shorter side of an image file before the center cut, such as 256 for a cut of 224. Default: that of the run; the
    model's own size for others."""

    def load(self) -> tuple[HashingModel, dict]:
        """Load the encoder, and gather its model card; a file runs no code of its own.

        Raises:
            FileNotFoundError: the run has no such model, or a file is missing.
            ValueError: not one of the three is given; or a file is damaged, contains code, or is no encoder.
        """
        given = [name for name in ("run_dir", "preset", "keras_file") if getattr(self, name) is not None]
        if len(given) != 1:
            received = " and ".join(f"--{name.replace('_', '-')}" for name in given) or "none"
            raise ValueError(f"{ONE_OF} Received: {received}.")
        if self.run_dir is not None:
            if self.resize_size is not None:
                raise ValueError("--resize-size is that of the run. Received: another one. Leave it out.")
            card = model_card(self.run_dir, self.model)
            return load_encoder_file(self.weights_file()), card
        if self.preset is not None:
            encoder = HashingModel.from_preset(self.preset)
            about = read_object(preset_folder(self.preset) / CARD, {})
            return encoder, own_card(encoder, {"preset": self.preset, "card": about}, self.resize_size)
        file = self.weights_file()
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file. --keras-file must name one that HashingModel.save wrote.")
        encoder = load_encoder_file(file)
        return encoder, own_card(encoder, {"file": file.name}, self.resize_size)

    def weights_file(self) -> Path:
        """Return the file that the encoder's weights are in."""
        if self.run_dir is not None:
            return self.run_dir / f"{self.model}.keras"
        return preset_folder(self.preset) / WEIGHTS if self.preset is not None else Path(str(self.keras_file))
