"""Networks: masks, attention layers, networks of them, and weights set by hand."""

from insitu.models.attention import LinearAttention, MergedMaps, SeparateMaps, SoftmaxAttention
from insitu.models.attention_network import Architecture, AttentionNetwork
from insitu.models.checkpoint import load_network, named_predictor, save_network
from insitu.models.constructed import gradient_descent, sequence_descent, sequence_descents, telescoping
from insitu.models.decoder import Decoder, DecoderArchitecture, initialise_decoder
from insitu.models.mask import Causal, Mask, Prefix, SelfVisible
from insitu.models.network import Network, initialise, network_kinds
from insitu.models.sequences import AugmentedArchitecture, AugmentedStack, HeadsArchitecture, PositionedHeads
from insitu.models.transformer import Transformer, TransformerArchitecture, initialise_transformer

__all__ = [
    "Architecture",
    "AttentionNetwork",
    "AugmentedArchitecture",
    "AugmentedStack",
    "Causal",
    "Decoder",
    "DecoderArchitecture",
    "HeadsArchitecture",
    "LinearAttention",
    "Mask",
    "MergedMaps",
    "Network",
    "PositionedHeads",
    "Prefix",
    "SelfVisible",
    "SeparateMaps",
    "SoftmaxAttention",
    "Transformer",
    "TransformerArchitecture",
    "gradient_descent",
    "initialise",
    "initialise_decoder",
    "initialise_transformer",
    "load_network",
    "named_predictor",
    "network_kinds",
    "save_network",
    "sequence_descent",
    "sequence_descents",
    "telescoping",
]
