// Depthwise convolution: each channel has a kernel of its own. Paddle's own CPU kernel computes it pixel by pixel.
//
// A thread takes whole planes: 3x3 kernels where x lies (depthwise_3x3.h), others in a padded copy (depthwise_plane.h).
// grad_input with stride 1 is a depthwise convolution too: of grad_output, with the flipped kernel. grad_weight adds up
// vectors for each plane, then the images in order: the sum does not depend on the number of threads.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "convolution.h"
#include "depthwise_3x3.h"
#include "depthwise_plane.h"
#include "depthwise_whole.h"
#include "planes.h"

namespace {

// The same plane of some images, each `step` behind the one before.
template <typename T>
struct Series {
  T* first;
  std::int64_t step;

  T* operator[](std::int64_t image) const { return first + image * step; }
};

// A kernel, each number in all lanes.
template <int LANES, typename T>
struct Kernel3x3 {
  explicit Kernel3x3(const T* weight) {
    for (int t = 0; t < 9; ++t) taps[t] = Strip<T, LANES>{} + weight[t];
  }

  Strip<T, LANES> taps[9];
};

// Adds the nine sums of `add(sums, image)` over some images to totals [9, PARTS], of which it fills LANES.
template <int LANES, int PARTS, typename T, typename Add>
inline ALWAYS_INLINE void add_sums_3x3(std::int64_t images, T* totals, const Add& add) {
  Strip<T, LANES> sums[9] = {};
  for (std::int64_t i = 0; i < images; ++i) add(sums, i);
  for (int t = 0; t < 9; ++t, totals += PARTS) store_strip<LANES>(totals, load_strip<LANES>(totals) + sums[t]);
}

// What one thread computes the planes of a channel with.
template <int LANES, typename T>
class PlaneConvolution {
 public:
  // Side of a plane that is one vector.
  static constexpr int SIDE = LANES * LANES * sizeof(T) == VECTOR_BYTES ? LANES : 0;
  // In how many parts the gradient of a tap is summed up.
  static constexpr int PARTS = SIDE > 0 ? SIDE * SIDE : LANES;

  explicit PlaneConvolution(const Geometry& g) : g(g), way(way_of(g)), zeros(std::max(g.width, g.out_w())) {}

  void forward(Series<const T> x, Series<T> y, std::int64_t images, const T* weight) {
    if (way == WHOLE_1)
      forward_whole<1>(x, y, images, weight);
    else if (way == WHOLE_2)
      forward_whole<2>(x, y, images, weight);
    else if (way == STRIDE_1)
      forward_3x3<1>(x, y, images, weight);
    else if (way == STRIDE_2)
      forward_3x3<2>(x, y, images, weight);
    else
      for (std::int64_t i = 0; i < images; ++i) padded().template convolve<LANES>(x[i], weight, y[i]);
  }

  // totals [taps, PARTS] += the gradient of the kernel.
  void add_grad_weight(Series<const T> x, Series<const T> grad_output, std::int64_t images, T* totals) {
    if (way == WHOLE_1)
      add_grad_weight_whole<1>(x, grad_output, images, totals);
    else if (way == WHOLE_2)
      add_grad_weight_whole<2>(x, grad_output, images, totals);
    else if (way == STRIDE_1)
      add_grad_weight_3x3<1>(x, grad_output, images, totals);
    else if (way == STRIDE_2)
      add_grad_weight_3x3<2>(x, grad_output, images, totals);
    else
      for (std::int64_t i = 0; i < images; ++i)
        padded().template add_grad_weight<LANES, PARTS>(x[i], grad_output[i], totals);
  }

  // Where grad_input is no convolution (`has_dense_backward`).
  void backward(Series<const T> grad_output, Series<T> grad_input, std::int64_t images, const T* weight) {
    if constexpr (SIDE > 0)
      if (way == WHOLE_2) {
        const Kernel3x3<SIDE * SIDE, T> kernel(weight);
        for (std::int64_t i = 0; i < images; ++i)
          convolve_back_whole_by_2<SIDE>(grad_output[i], kernel.taps, grad_input[i]);
        return;
      }
    if constexpr (LANES > 1)
      if (way == STRIDE_2) {
        const Kernel3x3<LANES, T> kernel(weight);
        for (std::int64_t i = 0; i < images; ++i)
          convolve_back_by_2<LANES>(grad_output[i], g, kernel.taps, zeros.data(), grad_input[i]);
        return;
      }
    for (std::int64_t i = 0; i < images; ++i) padded().scatter(grad_output[i], weight, grad_input[i]);
  }

 private:
  enum Way { WHOLE_1, WHOLE_2, STRIDE_1, STRIDE_2, PADDED };

  static Way way_of(const Geometry& g) {
    const bool known = g.kernel_h == 3 && g.kernel_w == 3 && g.pad_h == 1 && g.pad_w == 1 && g.stride_h == g.stride_w;
    if (!known || LANES == 1 || g.out_h() < ROWS) return PADDED;
    const bool whole = SIDE > 0 && g.height == SIDE * g.stride_h && g.width == SIDE * g.stride_w;
    if (g.stride_w == 1) return whole ? WHOLE_1 : STRIDE_1;
    if (g.stride_w == 2 && g.width % 2 == 0) return whole ? WHOLE_2 : STRIDE_2;
    return PADDED;
  }

  template <int STRIDE>
  void forward_whole(Series<const T> x, Series<T> y, std::int64_t images, const T* weight) {
    if constexpr (SIDE > 0) {
      const Kernel3x3<SIDE * SIDE, T> kernel(weight);
      for (std::int64_t i = 0; i < images; ++i) convolve_whole<SIDE, STRIDE>(x[i], kernel.taps, y[i]);
    }
  }

  template <int STRIDE>
  void forward_3x3(Series<const T> x, Series<T> y, std::int64_t images, const T* weight) {
    if constexpr (LANES > 1) {
      const Kernel3x3<LANES, T> kernel(weight);
      for (std::int64_t i = 0; i < images; ++i)
        convolve_3x3<LANES, STRIDE>(x[i], g, kernel.taps, zeros.data(), y[i]);
    }
  }

  template <int STRIDE>
  void add_grad_weight_whole(Series<const T> x, Series<const T> grad_output, std::int64_t images, T* totals) {
    if constexpr (SIDE > 0)
      add_sums_3x3<PARTS, PARTS>(images, totals, [&](auto* sums, std::int64_t i) ALWAYS_INLINE {
        ::add_grad_weight_whole<SIDE, STRIDE>(x[i], grad_output[i], sums);
      });
  }

  template <int STRIDE>
  void add_grad_weight_3x3(Series<const T> x, Series<const T> grad_output, std::int64_t images, T* totals) {
    if constexpr (LANES > 1)
      add_sums_3x3<LANES, PARTS>(images, totals, [&](auto* sums, std::int64_t i) ALWAYS_INLINE {
        ::add_grad_weight_3x3<LANES, STRIDE>(x[i], g, grad_output[i], zeros.data(), sums);
      });
  }

  PaddedPlane<T>& padded() {
    if (!copy) copy.reset(new PaddedPlane<T>(g));
    return *copy;
  }

  const Geometry& g;
  const Way way;
  const std::vector<T> zeros;
  std::unique_ptr<PaddedPlane<T>> copy;
};

// Of how many images, and channels next to each other, small planes are taken together.
template <typename T>
struct Together {
  static constexpr std::int64_t MOST_IMAGES = 4;  // their planes often share a set of L1

  Together(std::int64_t images, std::int64_t channels, std::int64_t pixels)
      : images(std::min({std::max<std::int64_t>(BLOCK<T> / 4 / pixels, 1), MOST_IMAGES, images})),
        channels(std::min(std::max<std::int64_t>(BLOCK<T> / pixels, 1), channels)) {}

  std::int64_t images, channels;
};

// y [images, channels, out_h, out_w] of x [images, channels, H, W] and weight [channels, kernel_h, kernel_w]; g is that
// of one channel.
template <typename T>
void convolve_depthwise(const T* x, const T* weight, T* y, std::int64_t images, std::int64_t channels,
                        const Geometry& g, int threads) {
  const std::int64_t taps = g.patch_size(), in_pixels = g.in_pixels(), out_pixels = g.out_pixels();
  const Together<T> together(images, channels, in_pixels);
  with_lanes<T>(std::min(g.width, g.out_w()), [&](auto lanes) {
#pragma omp parallel num_threads(threads) if (images * channels * in_pixels > PARALLEL_FROM)
    {
      PlaneConvolution<lanes, T> plane(g);
#pragma omp for collapse(2) schedule(static)
      for (std::int64_t image = 0; image < images; image += together.images)
        for (std::int64_t first = 0; first < channels; first += together.channels)
          for (std::int64_t c = first; c < std::min(first + together.channels, channels); ++c) {
            const std::int64_t p = image * channels + c;
            plane.forward({x + p * in_pixels, channels * in_pixels}, {y + p * out_pixels, channels * out_pixels},
                          std::min(together.images, images - image), weight + c * taps);
          }
    }
  });
}

// Where grad_input is a convolution: the geometry of it.
bool has_dense_backward(const Geometry& g) {
  return g.stride_h * g.stride_w == 1 && g.pad_h < g.kernel_h && g.pad_w < g.kernel_w;
}
Geometry dense_backward(const Geometry& g) {
  return {1, g.out_h(), g.out_w(), 1, g.kernel_h, g.kernel_w, 1, 1, g.kernel_h - 1 - g.pad_h, g.kernel_w - 1 - g.pad_w};
}

// grad_input and grad_weight, in one pass over grad_output; either may be null. Each thread takes channels.
template <typename T>
void backward_depthwise(const T* x, const T* weight, const T* grad_output, T* grad_input, T* grad_weight,
                        std::int64_t images, std::int64_t channels, const Geometry& g, int threads) {
  const bool dense = has_dense_backward(g);
  const Geometry back = dense ? dense_backward(g) : g;
  const std::int64_t taps = g.patch_size(), in_pixels = g.in_pixels(), out_pixels = g.out_pixels();
  std::vector<T> kernels(weight, weight + channels * taps);
  for (std::int64_t c = 0; c < channels && dense; ++c) std::reverse(&kernels[c * taps], &kernels[c * taps] + taps);
  const Together<T> together(images, channels, in_pixels);
  with_lanes<T>(std::min(g.width, g.out_w()), [&](auto lanes) {
#pragma omp parallel num_threads(threads) if (images * channels * in_pixels > PARALLEL_FROM)
    {
      PlaneConvolution<lanes, T> plane(g), gradient(back);
      constexpr std::int64_t PARTS = plane.PARTS;
      std::vector<T> totals(channels * taps * PARTS);
#pragma omp for schedule(static)
      for (std::int64_t piece = 0; piece < threads; ++piece) {
        const std::int64_t first = piece * channels / threads, last = (piece + 1) * channels / threads;
        for (std::int64_t image = 0; image < images; image += together.images)
          for (std::int64_t c = first; c < last; ++c) {
            const std::int64_t p = image * channels + c, count = std::min(together.images, images - image);
            const Series<const T> planes{x + p * in_pixels, channels * in_pixels};
            const Series<const T> grads{grad_output + p * out_pixels, channels * out_pixels};
            const Series<T> to{grad_input + p * in_pixels, channels * in_pixels};
            if (grad_weight) plane.add_grad_weight(planes, grads, count, &totals[c * taps * PARTS]);
            if (grad_input && dense) gradient.forward(grads, to, count, &kernels[c * taps]);
            if (grad_input && !dense) plane.backward(grads, to, count, &kernels[c * taps]);
          }
        for (std::int64_t t = first * taps; t < last * taps && grad_weight; ++t)
          grad_weight[t] = std::accumulate(&totals[t * PARTS], &totals[t * PARTS] + PARTS, T(0));
      }
    }
  });
}

}  // namespace
