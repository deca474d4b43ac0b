// Depthwise convolution: each channel has a kernel of its own. Paddle's own CPU kernel computes it pixel by pixel.
//
// Each plane is copied into a padded buffer, small ones several at a time, and computed there (depthwise_plane.h).
// grad_input with stride 1 is the same of grad_output, with the flipped kernel. grad_weight adds up vectors for each
// plane, then the planes of a channel in order: the sum does not depend on the number of threads.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "convolution.h"
#include "depthwise_plane.h"
#include "planes.h"

namespace {

// How grad_input is computed.
struct BackwardPlan {
  enum Way { CONVOLUTION, BY_2, SCATTER };

  explicit BackwardPlan(const Geometry& g)
      : way(g.stride_h * g.stride_w == 1 && g.pad_h < g.kernel_h && g.pad_w < g.kernel_w ? CONVOLUTION
            : PaddedPlane(g).known(2) && g.pad_h == 1 && g.pad_w == 1 && g.height % 2 == 0 && g.width % 2 == 0
                ? BY_2
                : SCATTER),
        padded(way == SCATTER ? g
                              : Geometry{1, g.out_h(), g.out_w(), 1, g.kernel_h, g.kernel_w, 1, 1,
                                         way == BY_2 ? 1 : g.kernel_h - 1 - g.pad_h,
                                         way == BY_2 ? 1 : g.kernel_w - 1 - g.pad_w}) {}

  Way way;
  PaddedPlane padded;  // of grad_output, or for `scatter_back`
};

// grad_input of some planes next to each other: weight [planes, taps], already flipped for a CONVOLUTION; buffer: as
// many padded planes.
template <int LANES, typename T>
void convolve_back(const T* g, const BackwardPlan& plan, const T* weight, std::int64_t planes, std::int64_t out_pixels,
                   std::int64_t in_pixels, T* buffer, T* grad_input) {
  const PaddedPlane& padded = plan.padded;
  const std::int64_t taps = padded.taps.size();
  for (std::int64_t p = 0; p < planes && plan.way != BackwardPlan::SCATTER; ++p)
    load_plane<LANES>(g + p * out_pixels, padded, buffer + p * padded.size);
  for (std::int64_t p = 0; p < planes; ++p) {
    T *to = grad_input + p * in_pixels, *own = buffer + p * padded.size;
    if (plan.way == BackwardPlan::CONVOLUTION)
      convolve_plane<LANES>(own, padded, weight + p * taps, to);
    else if (plan.way == BackwardPlan::BY_2)
      convolve_back_by_2<LANES>(own, padded, weight + p * taps, to);
    else
      scatter_back(g + p * out_pixels, padded, weight + p * taps, own, to);
  }
}

// How many planes a buffer holds.
template <typename T>
std::int64_t planes_in_buffer(const PaddedPlane& padded) {
  return std::max<std::int64_t>(BLOCK<T> / padded.size, 1);
}

// y [images, channels, out_h, out_w] of x [images, channels, H, W] and weight [channels, kernel_h, kernel_w]; g is that
// of one channel.
template <typename T>
void convolve_depthwise(const T* x, const T* weight, T* y, std::int64_t images, std::int64_t channels,
                        const Geometry& g, int threads) {
  const PaddedPlane padded(g);
  const std::int64_t planes = images * channels, most = planes_in_buffer<T>(padded), taps = padded.taps.size();
  with_lanes<T>(std::min(g.width, g.out_w()), [&](auto lanes) {
    constexpr int LANES = lanes;
#pragma omp parallel num_threads(threads) if (planes * g.in_pixels() > PARALLEL_FROM)
    {
      std::vector<T> buffer(most * padded.size);
#pragma omp for schedule(static)
      for (std::int64_t first = 0; first < planes; first += most) {
        const std::int64_t end = std::min(first + most, planes);
        for (std::int64_t p = first; p < end; ++p)
          load_plane<LANES>(x + p * g.in_pixels(), padded, &buffer[(p - first) * padded.size]);
        for (std::int64_t p = first; p < end; ++p)
          convolve_plane<LANES>(&buffer[(p - first) * padded.size], padded, weight + p % channels * taps,
                                y + p * g.out_pixels());
      }
    }
  });
}

// grad_input and grad_weight, in one pass over grad_output; either may be null. Each thread takes channels, all images
// of them.
template <typename T>
void backward_depthwise(const T* x, const T* weight, const T* grad_output, T* grad_input, T* grad_weight,
                        std::int64_t images, std::int64_t channels, const Geometry& g, int threads) {
  const PaddedPlane padded(g);
  const BackwardPlan plan(g);
  const std::int64_t taps = padded.taps.size(), in_pixels = g.in_pixels(), out_pixels = g.out_pixels();
  std::vector<T> kernels(weight, weight + channels * taps);
  for (std::int64_t c = 0; c < channels && plan.way == BackwardPlan::CONVOLUTION; ++c)
    std::reverse(&kernels[c * taps], &kernels[c * taps] + taps);
  // As many as a buffer holds, but the same number of pieces for each thread.
  const std::int64_t fewest = (channels + planes_in_buffer<T>(padded) - 1) / planes_in_buffer<T>(padded);
  const std::int64_t pieces = std::min((fewest + threads - 1) / threads * threads, channels);
  with_lanes<T>(std::min(g.width, g.out_w()), [&](auto lanes) {
    constexpr int LANES = lanes;
#pragma omp parallel for schedule(static) num_threads(threads) if (images * channels * in_pixels > PARALLEL_FROM)
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      const std::int64_t first = piece * channels / pieces, count = (piece + 1) * channels / pieces - first;
      std::vector<T> totals(count * taps * LANES), of_x(count * padded.size), of_grads(count * plan.padded.size);
      for (std::int64_t image = 0; image < images; ++image) {
        const std::int64_t plane = image * channels + first;
        const T* grads = grad_output + plane * out_pixels;
        for (std::int64_t p = 0; p < count && grad_weight; ++p)
          load_plane<LANES>(x + (plane + p) * in_pixels, padded, &of_x[p * padded.size]);
        for (std::int64_t p = 0; p < count && grad_weight; ++p)
          add_grad_weight<LANES>(&of_x[p * padded.size], padded, grads + p * out_pixels, &totals[p * taps * LANES]);
        if (grad_input)
          convolve_back<LANES>(grads, plan, &kernels[first * taps], count, out_pixels, in_pixels, of_grads.data(),
                               grad_input + plane * in_pixels);
      }
      for (std::int64_t t = 0; t < count * taps && grad_weight; ++t) {
        double total = 0;
        for (int lane = 0; lane < LANES; ++lane) total += totals[t * LANES + lane];
        grad_weight[first * taps + t] = static_cast<T>(total);
      }
    }
  });
}

}  // namespace
