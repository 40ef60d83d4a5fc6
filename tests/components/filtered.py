"""Folders of photographs, and what is ingested and filtered of them on Beam."""

from PIL import Image

from imgpipe.components.common.storage.records import read_examples, shard_files, text
from imgpipe.components.example_gen.image_example_gen import ingest
from imgpipe.components.example_gen.sources import read_source
from imgpipe.components.image_filter import quarantine
from imgpipe.components.image_filter.findings import with_severity
from imgpipe.components.image_filter.image_filter import Uris, filter_examples
from imgpipe.components.image_filter.judge import overrides
from imgpipe.models import names
from imgpipe.models.settings.data import DataSettings
from imgpipe.models.settings.given import Facts, Given
from imgpipe.models.settings.running import RunSettings
from imgpipe.models.settings.settings import Settings
from tests.images import encoded, noise


def settings_of(source, out, **sections):
    """Return settings with a source and an output folder, and with some sections."""
    data = sections.pop("data", DataSettings()).model_copy(update={"source": str(source)})
    return Settings(data=data, run=RunSettings(out=str(out)), **sections)


class Memory:
    """A source that returns the bytes of `files` by path and records the paths read in `paths`."""

    def __init__(self, files):
        self.files, self.paths = files, []

    def read(self, item):
        self.paths.append(item.path)
        return self.files[item.path]


def encode(kind="JPEG", size=(40, 32), seed=0, mode="RGB", **options):
    """Return an encoded image of noise; each seed gives another image."""
    return encoded(Image.fromarray(noise(seed, size)).convert(mode), kind, **options)


def photographs(folder, files):
    """Write files {path: content} below a folder; a number n as content is a folder of n images."""
    seed = 0
    for path, content in files.items():
        if isinstance(content, int):
            drawn = [f"{path}/{n:03d}.jpg" for n in range(content)]
        else:
            drawn = [path]
        for name in drawn:
            seed += 1
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else encode(seed=seed))
    return folder


def beam_pipeline(*flags):
    """Return a Beam pipeline with these flags; its runner runs in this process."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    return beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner", *flags]))


class Run:
    """Ingest and filter a source on Beam, with some sections of the settings."""

    def __init__(self, root, source, shard_size=256, flags=(), decided=(), **sections):
        settings = settings_of(source, root, **sections)
        scan = read_source(settings.data.source, settings.data).hashed()
        root.mkdir(exist_ok=True)
        file = root / "overrides.toml"
        file.write_text(overrides.to_toml(decided), encoding="utf-8")
        facts = Facts(
            vocabulary=scan.classes,
            fingerprint=scan.fingerprint,
            decisions=overrides.decisions(file, scan.classes),
        )
        given = Given(settings, facts)
        ingested = ingest(beam_pipeline(), f"{root}/examples", given, shard_size)
        uris = Uris(*(f"{root}/{name}" for name in ("examples", "kept", "q")))
        self.root = root
        self.summary = filter_examples(beam_pipeline(*flags), uris, given)
        files = self.summary["kept"] + self.summary["rejected"]
        assert ingested["images"] == len(scan.items) == files
        findings = quarantine.read_findings(f"{root}/q")
        self.rejects = {each["path"]: each for each in with_severity(findings, "reject")}

    def kept(self):
        found = []
        for split in names.SPLITS:
            for path in shard_files(f"{self.root}/kept", split):
                found += read_examples(path)
        return found

    def paths(self):
        return [text(example, names.PATH) for example in self.kept()]
