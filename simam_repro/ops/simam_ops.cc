// SimAM, forward and backward, fused: one channel plane at a time, which stays in the processor's cache.
// At the end the bias of a convolution, which Paddle's own CPU kernels add on one thread, slowly.
//
// With M neurons in a plane, n = max(M - 1, 1), d = x - mean, v = sum(d^2) / n, c = 1 / (4 (v + lambda)):
//   z = c d^2 + 1/2,  s = sigmoid(z),  y = x s
// and, with g the gradient of y and a = g x s (1 - s):
//   grad_j = g_j s_j + 2 c a_j d_j - (2 c / M) sum(a d) - (8 c^2 / n) sum(a d^2) d_j
// Saved for the backward pass: x, and mean and c of each plane.
//
// Planes are done in blocks that fit into the first-level cache, step by step: the planes of a step do not wait for
// each other. A plane is walked in vectors of 64 bytes. Its last vector reaches into the next plane: the surplus lanes
// count as zero in sums and are put back as they were. At the end of a block, where the surplus may belong to
// another thread or to nobody, a plane copies just its own lanes.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "lanes.h"
#include "paddle/extension.h"

namespace {

int num_threads = 1;

constexpr std::int64_t MOST_PLANES = 256;  // of a block

template <typename T>
inline Vector<T> sigmoid_weight(Vector<T> d, T scale) {
  return T(1) / (T(1) + exp_minus(d * d * scale + T(0.5)));
}

// Some planes next to each other, each `size` neurons: `full` of them in whole vectors, the others in the rest.
struct Block {
  std::int64_t planes, size, full;

  bool has_rest() const { return full < size; }
  // Whether the vector at the rest of a plane stays within the block.
  bool whole(std::int64_t plane, int width) const { return plane * size + full + width <= planes * size; }
};

template <typename T>
struct Rest {
  Integers<T> own;  // all bits set in the lanes that belong to the plane
  std::int64_t full, bytes;

  explicit Rest(const Block& block) : full(block.full), bytes((block.size - block.full) * sizeof(T)) {
    for (int lane = 0; lane < WIDTH<T>; ++lane) own[lane] = lane < block.size - block.full ? -1 : 0;
  }

  Vector<T> of(Vector<T> value) const { return own ? value : Vector<T>{}; }

  Vector<T> load_from(const T* plane, bool whole) const {
    if (whole) return load(plane + full);
    Vector<T> value{};
    std::memcpy(&value, plane + full, bytes);
    return value;
  }

  void store_to(T* plane, Vector<T> value, bool whole) const {
    if (whole) return store<T>(plane + full, own ? value : load(plane + full));
    std::memcpy(plane + full, &value, bytes);
  }
};

template <typename T>
inline T degrees_of_freedom(const Block& block) {
  return static_cast<T>(std::max<std::int64_t>(block.size - 1, 1));
}

template <typename T>
void forward_block(const T* __restrict x, T* __restrict y, T* __restrict mean, T* __restrict scale, const Block& block,
                   T e_lambda) {
  const Rest<T> rest(block);
  for (std::int64_t p = 0; p < block.planes; ++p) {
    const T* plane = x + p * block.size;
    Vector<T> total{};
    if (block.has_rest()) total = rest.of(rest.load_from(plane, block.whole(p, WIDTH<T>)));
    for (std::int64_t i = 0; i < block.full; i += WIDTH<T>) total += load(plane + i);
    mean[p] = sum(total);
  }
  for (std::int64_t p = 0; p < block.planes; ++p) mean[p] /= static_cast<T>(block.size);

  for (std::int64_t p = 0; p < block.planes; ++p) {
    const T* plane = x + p * block.size;
    const T mu = mean[p];
    Vector<T> squares{};
    if (block.has_rest()) {
      const Vector<T> d = rest.of(rest.load_from(plane, block.whole(p, WIDTH<T>)) - mu);
      squares = d * d;
    }
    for (std::int64_t i = 0; i < block.full; i += WIDTH<T>) {
      const Vector<T> d = load(plane + i) - mu;
      squares += d * d;
    }
    scale[p] = sum(squares);
  }
  for (std::int64_t p = 0; p < block.planes; ++p)
    scale[p] = T(1) / (T(4) * (scale[p] / degrees_of_freedom<T>(block) + e_lambda));

  for (std::int64_t p = 0; p < block.planes; ++p) {
    const T* plane = x + p * block.size;
    T* out = y + p * block.size;
    const T mu = mean[p], c = scale[p];
    for (std::int64_t i = 0; i < block.full; i += WIDTH<T>) {
      const Vector<T> value = load(plane + i);
      store<T>(out + i, value * sigmoid_weight<T>(value - mu, c));
    }
    if (block.has_rest()) {
      const Vector<T> value = rest.load_from(plane, block.whole(p, WIDTH<T>));
      rest.store_to(out, value * sigmoid_weight<T>(value - mu, c), block.whole(p, WIDTH<T>));
    }
  }
}

// The part of the gradient that needs no sums; `ad` is what is summed.
template <typename T>
inline Vector<T> local_gradient(Vector<T> d, Vector<T> x, Vector<T> g, T scale, Vector<T>* ad) {
  const Vector<T> s = sigmoid_weight<T>(d, scale), gs = g * s;
  *ad = (gs - gs * s) * (x * d);
  return gs + *ad * (T(2) * scale);
}

// `shift` and `slope` are scratch of a number a plane.
template <typename T>
void backward_block(const T* __restrict x, const T* __restrict g, T* __restrict gradient, const T* __restrict mean,
                    const T* __restrict scale, T* __restrict shift, T* __restrict slope, const Block& block) {
  const Rest<T> rest(block);
  for (std::int64_t p = 0; p < block.planes; ++p) {
    const std::int64_t at = p * block.size;
    const T mu = mean[p], c = scale[p];
    Vector<T> ad{}, sum_ad{}, sum_add{};
    if (block.has_rest()) {
      const Vector<T> value = rest.load_from(x + at, block.whole(p, WIDTH<T>)), d = rest.of(value - mu);
      const Vector<T> upper = rest.of(rest.load_from(g + at, block.whole(p, WIDTH<T>)));
      rest.store_to(gradient + at, local_gradient<T>(d, rest.of(value), upper, c, &ad), block.whole(p, WIDTH<T>));
      sum_ad = ad;
      sum_add = ad * d;
    }
    for (std::int64_t i = at; i < at + block.full; i += WIDTH<T>) {
      const Vector<T> value = load(x + i), d = value - mu;
      store<T>(gradient + i, local_gradient<T>(d, value, load(g + i), c, &ad));
      sum_ad += ad;
      sum_add += ad * d;
    }
    shift[p] = sum(sum_ad);
    slope[p] = sum(sum_add);
  }
  for (std::int64_t p = 0; p < block.planes; ++p) {
    shift[p] *= T(2) * scale[p] / static_cast<T>(block.size);
    slope[p] *= T(8) * scale[p] * scale[p] / degrees_of_freedom<T>(block);
  }
  for (std::int64_t p = 0; p < block.planes; ++p) {
    const std::int64_t at = p * block.size;
    const T mu = mean[p], flat = shift[p], tilt = slope[p];
    for (std::int64_t i = at; i < at + block.full; i += WIDTH<T>)
      store<T>(gradient + i, load(gradient + i) - (flat + (load(x + i) - mu) * tilt));
    if (block.has_rest()) {
      const Vector<T> value = rest.load_from(x + at, block.whole(p, WIDTH<T>));
      const Vector<T> local = rest.load_from(gradient + at, block.whole(p, WIDTH<T>));
      rest.store_to(gradient + at, local - (flat + (value - mu) * tilt), block.whole(p, WIDTH<T>));
    }
  }
}

// Calls `work(first plane, block)` for all planes, shared among the threads.
template <typename T, typename Work>
void for_blocks(std::int64_t planes, std::int64_t size, const Work& work) {
  constexpr std::int64_t PARALLEL_FROM = 16384;      // neurons; fewer are not worth waking the threads
  constexpr std::int64_t BLOCK = 8192 / sizeof(T);  // neurons; x, g and the result fit into 32 KiB
  if (planes * size == 0) return;
  const std::int64_t per_block = std::min(std::max<std::int64_t>(BLOCK / size, 1), MOST_PLANES);
  const std::int64_t blocks = (planes + per_block - 1) / per_block;
#pragma omp parallel for schedule(static) num_threads(num_threads) if (planes * size > PARALLEL_FROM)
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t first = b * per_block, count = std::min(per_block, planes - first);
    work(first, Block{count, size, size / WIDTH<T> * WIDTH<T>});
  }
}

// The bias of a convolution, in place, and the sums of its gradient over images and places.
template <typename T>
void add_bias(T* x, const T* bias, std::int64_t planes, std::int64_t channels, std::int64_t size) {
  for_blocks<T>(planes, size, [=](std::int64_t first, const Block& block) {
    for (std::int64_t p = first; p < first + block.planes; ++p) {
      T* plane = x + p * size;
      const T value = bias[p % channels];
#pragma omp simd
      for (std::int64_t i = 0; i < size; ++i) plane[i] += value;
    }
  });
}

template <typename T>
void sum_channels(const T* g, T* sums, std::int64_t planes, std::int64_t channels, std::int64_t size) {
  std::vector<T> of_planes(planes);
  T* of_plane = of_planes.data();
  for_blocks<T>(planes, size, [=](std::int64_t first, const Block& block) {
    const Rest<T> rest(block);
    for (std::int64_t p = 0; p < block.planes; ++p) {
      const T* plane = g + (first + p) * size;
      Vector<T> total{};
      if (block.has_rest()) total = rest.of(rest.load_from(plane, block.whole(p, WIDTH<T>)));
      for (std::int64_t i = 0; i < block.full; i += WIDTH<T>) total += load(plane + i);
      of_plane[first + p] = sum(total);
    }
  });
  for (std::int64_t c = 0; c < channels; ++c) {
    double total = 0;
    for (std::int64_t p = c; p < planes; p += channels) total += of_plane[p];
    sums[c] = static_cast<T>(total);
  }
}

using Shape = std::vector<std::int64_t>;

Shape plane_shape(const Shape& x) { return {x[0], x[1]}; }

std::int64_t plane_size(const paddle::Tensor& x) { return x.shape()[2] * x.shape()[3]; }

template <typename T>
void forward(const paddle::Tensor& x, paddle::Tensor& y, paddle::Tensor& mean, paddle::Tensor& scale, T e_lambda) {
  const std::int64_t size = plane_size(x);
  const T* from = x.data<T>();
  T *to = y.data<T>(), *means = mean.data<T>(), *scales = scale.data<T>();
  for_blocks<T>(mean.numel(), size, [=](std::int64_t first, const Block& block) {
    forward_block<T>(from + first * size, to + first * size, means + first, scales + first, block, e_lambda);
  });
}

template <typename T>
void backward(const paddle::Tensor& x, const paddle::Tensor& mean, const paddle::Tensor& scale,
              const paddle::Tensor& g, paddle::Tensor& gradient) {
  const std::int64_t size = plane_size(x);
  const T *from = x.data<T>(), *upper = g.data<T>(), *means = mean.data<T>(), *scales = scale.data<T>();
  T* to = gradient.data<T>();
  for_blocks<T>(mean.numel(), size, [=](std::int64_t first, const Block& block) {
    T shift[MOST_PLANES], slope[MOST_PLANES];
    const std::int64_t at = first * size;
    backward_block<T>(from + at, upper + at, to + at, means + first, scales + first, shift, slope, block);
  });
}

}  // namespace

extern "C" void simam_set_num_threads(int number) { num_threads = std::max(number, 1); }

// lambda comes as text: a float attribute would round it, and Paddle 2.6 knows no double ones.
std::vector<paddle::Tensor> simam_forward(const paddle::Tensor& x, const std::string& e_lambda) {
  auto y = paddle::empty(x.shape(), x.dtype(), x.place());
  auto mean = paddle::empty(plane_shape(x.shape()), x.dtype(), x.place());
  auto scale = paddle::empty(plane_shape(x.shape()), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "simam_forward", ([&] {
                               forward<data_t>(x, y, mean, scale, static_cast<data_t>(std::stod(e_lambda)));
                             }));
  return std::vector<paddle::Tensor>{y, mean, scale};
}

std::vector<paddle::Tensor> simam_backward(const paddle::Tensor& x, const paddle::Tensor& mean,
                                           const paddle::Tensor& scale, const paddle::Tensor& g) {
  auto gradient = paddle::empty(x.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "simam_backward", ([&] { backward<data_t>(x, mean, scale, g, gradient); }));
  return std::vector<paddle::Tensor>{gradient};
}

// In place: what comes out is x. A convolution does not need its own output to go backward.
void bias_forward(paddle::Tensor& x, const paddle::Tensor& bias) {
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "bias_forward", ([&] {
                               add_bias<data_t>(x.data<data_t>(), bias.data<data_t>(), x.shape()[0] * x.shape()[1],
                                                x.shape()[1], plane_size(x));
                             }));
}

// In place too: the gradient of x is that of the result.
std::vector<paddle::Tensor> bias_backward(const paddle::Tensor& bias, paddle::Tensor& g) {
  auto sums = paddle::empty(bias.shape(), bias.dtype(), bias.place());
  PD_DISPATCH_FLOATING_TYPES(g.dtype(), "bias_backward", ([&] {
                               sum_channels<data_t>(g.data<data_t>(), sums.data<data_t>(), g.shape()[0] * g.shape()[1],
                                                    g.shape()[1], plane_size(g));
                             }));
  return std::vector<paddle::Tensor>{sums};
}

std::vector<Shape> simam_shapes(const Shape& x, const std::string&) { return {x, plane_shape(x), plane_shape(x)}; }

std::vector<paddle::DataType> simam_dtypes(const paddle::DataType& x) { return {x, x, x}; }

PD_BUILD_OP(simam_fused)
    .Inputs({"X"})
    .Outputs({"Out", "Mean", "Scale"})
    .Attrs({"e_lambda: std::string"})
    .SetKernelFn(PD_KERNEL(simam_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(simam_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(simam_dtypes));

PD_BUILD_GRAD_OP(simam_fused)
    .Inputs({"X", "Mean", "Scale", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X")})
    .SetKernelFn(PD_KERNEL(simam_backward));

PD_BUILD_OP(bias_fused)
    .Inputs({"X", "Bias"})
    .Outputs({"Out"})
    .SetInplaceMap({{"X", "Out"}})
    .SetKernelFn(PD_KERNEL(bias_forward));

PD_BUILD_GRAD_OP(bias_fused)
    .Inputs({"Bias", paddle::Grad("Out")})
    .Outputs({paddle::Grad("Bias"), paddle::Grad("X")})
    .SetInplaceMap({{paddle::Grad("Out"), paddle::Grad("X")}})
    .SetKernelFn(PD_KERNEL(bias_backward));
