"""The encodings there are. A plugin may bring its own: a subclass of `Encoding` registers itself."""

from bench.encodings.channel_kernels import ChannelKernels as ChannelKernels
from bench.encodings.mask import Mask as Mask
from bench.encodings.quantized import Plain as Plain
from bench.encodings.quantized import Quantized as Quantized
from bench.encodings.scaled_kernels import ScaledKernels as ScaledKernels
from bench.encodings.scaled_kernels import dihedral as dihedral
from bench.encodings.shared_filters import SharedFilters as SharedFilters
from bench.encodings.shared_weights import SharedWeights as SharedWeights
