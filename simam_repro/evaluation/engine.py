"""What runs a trained network: Paddle as in training, or an exported program in Paddle's inference library."""

import tempfile

import paddle
from paddle import inference, nn

from simam_repro.evaluation.export import export

GPU_POOL_MB = 256  # to begin with; it grows


class InferenceEngine(nn.Layer):
    """float32 images [N, 3, image_size, image_size] -> logits [N, num_classes], as `network` in eval mode.

    The weights are those of the moment; there is no gradient. On a CPU oneDNN runs it, with compiled attention
    between its layers. Measured on two cores against Paddle's own kernels in the same library, a plain layer
    under oneDNN, and memory reuse on and off, this was the fastest or as fast as the fastest (benchmarks/inference.py).
    """

    def __init__(self, network: nn.Layer, image_size: int):
        super().__init__()
        with tempfile.TemporaryDirectory() as folder:
            program, weights = export(network, image_size, folder, portable=False)
            self._predictor = inference.create_predictor(_settings(program, weights))
        (name,) = self._predictor.get_input_names()
        self._input = self._predictor.get_input_handle(name)
        (name,) = self._predictor.get_output_names()
        self._output = self._predictor.get_output_handle(name)

    def forward(self, images):
        # Not predictor.run([images]), which crashes the process under Paddle 2.6.
        self._input.share_external_data(images)
        self._predictor.run()
        return paddle.to_tensor(self._output.copy_to_cpu())


def _settings(program, weights) -> inference.Config:
    settings = inference.Config(str(program), str(weights))
    settings.disable_glog_info()
    device = paddle.get_device()
    if device.startswith("gpu"):
        settings.enable_use_gpu(GPU_POOL_MB, int(device.partition(":")[2]))
        return settings
    settings.disable_gpu()
    settings.enable_mkldnn()
    # The library sets the threads of the whole process, to 1 unless told.
    settings.set_cpu_math_library_num_threads(paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"])
    return settings


# Name -> a function from a `Trained` to what maps images to logits.
ENGINES = {
    "paddle": lambda trained: trained.network,
    "inference": lambda trained: InferenceEngine(trained.network, trained.experiment.data.image_size),
}
