"""Networks as models of the Hugging Face hub, by its own mixin."""

from pathlib import Path
from typing import Any, final

from huggingface_hub import ModelHubMixin, snapshot_download

from insitu.models import Network, load_network, save_network

__all__ = ["HubNetwork"]


@final
class HubNetwork(ModelHubMixin, library_name="insitu", tags=["in-context-learning"]):
    """A network with the methods ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    The files are those of :func:`insitu.models.save_network`, so :func:`insitu.load` reads the folder as well.

    Args:
        network: The network.

    Example:
        >>> import tempfile
        >>> from insitu.models import Architecture, AttentionNetwork
        >>> network = AttentionNetwork(Architecture(dim=3, out=1, layers=2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = HubNetwork(network).save_pretrained(folder)
        ...     HubNetwork.from_pretrained(folder).network.architecture == network.architecture
        True
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    def _save_pretrained(self, save_directory: Path) -> None:
        save_network(self.network, save_directory)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, revision: str | None, cache_dir: Any, force_download: bool, **others: Any
    ) -> "HubNetwork":
        if Path(model_id).is_dir():
            return cls(load_network(model_id))
        folder = snapshot_download(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            token=others["token"],
            local_files_only=others["local_files_only"],
        )
        return cls(load_network(folder))
