"""TensorBoard's event files, read back with tensorboard's own readers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata


def event_files(folder: str | Path) -> list[Path]:
    """The event files in a folder, in the order in which they were begun."""
    return sorted(Path(folder).glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns)


def accumulated(folder: str | Path) -> Any:
    """What TensorBoard makes of a folder. Nothing is thinned out."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every scalar, by tag, in the order in which they were written."""
    read = accumulated(folder)
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def purges(file: Path) -> list[int]:
    """The steps from which on earlier events are to be hidden."""
    return [event.step for event in EventFileLoader(str(file)).Load() if event.HasField("session_log")]


def graph_nodes(folder: str | Path) -> list[tuple[str, str]]:
    """Name and operation of every node of the graph."""
    return [(node.name, node.op) for node in accumulated(folder).Graph().node]


def shown_settings(folder: str | Path) -> list[tuple[dict[str, Any], list[str]]]:
    """The settings, and the tags of the metrics beside them, of each time that they were written."""
    settings = [
        {name: getattr(value, value.WhichOneof("kind")) for name, value in data.session_start_info.hparams.items()}
        for data in _plugin_data(folder)
        if data.HasField("session_start_info")
    ]
    metrics = [
        [info.name.tag for info in data.experiment.metric_infos]
        for data in _plugin_data(folder)
        if data.HasField("experiment")
    ]
    return list(zip(settings, metrics, strict=True))


def _plugin_data(folder: str | Path) -> Iterator[Any]:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for path in event_files(folder):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                plugin = value.metadata.plugin_data
                if plugin.plugin_name == metadata.PLUGIN_NAME:
                    yield HParamsPluginData.FromString(plugin.content)
