// Batch normalisation with what follows it, a residual sum and a ReLU or ReLU6, in two sweeps over memory each way.
//
// With mean and variance of a channel over images and pixels (n numbers), s = 1 / sqrt(variance + epsilon), d = x - mean:
//   y = clamp(gamma s d + beta [+ residual])
// With g = grad_output where the clamp let y pass, 0 elsewhere:
//   grad_beta = sum(g),  grad_gamma = s sum(g d),  grad_residual = g
//   grad_input_j = gamma s (g_j - sum(g) / n - s^2 d_j sum(g d) / n), or gamma s g_j with given statistics
//
// A thread takes some channels, and their planes in all images, a block of them at a time. The mean and the squared
// deviations of each plane are found while it is in the cache, and merged (Chan, Golub and LeVeque, 1983), so that large
// means cost no digits.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "planes.h"

namespace {

// What an activation lets pass; NaN stays NaN.
template <typename T>
struct Clamp {
  T low = -std::numeric_limits<T>::infinity(), high = std::numeric_limits<T>::infinity();

  Vector<T> operator()(Vector<T> value) const {
    value = value < low ? Vector<T>{} + low : value;
    return value > high ? Vector<T>{} + high : value;
  }
  // g where `value` is inside.
  Vector<T> passed(Vector<T> value, Vector<T> g) const {
    g = value <= low ? Vector<T>{} : g;
    return value >= high ? Vector<T>{} : g;
  }
  bool open() const { return std::isinf(low) && std::isinf(high); }
};

struct Batch {
  std::int64_t images, channels, size;  // size: of a plane

  std::int64_t at(std::int64_t image, std::int64_t channel) const { return (image * channels + channel) * size; }
};

// Numbers of each channel.
template <typename T>
struct Norm {
  const T *gamma, *beta;
  T *mean, *scale;  // scale: s
  Clamp<T> clamp;
};

constexpr std::int64_t CHANNEL_GROUPS = 16;  // at least, where there are as many channels

// Calls `work(first channel, block)` for groups of channels, shared among the threads. The groups do not depend on the
// number of threads, so that no sum does.
template <typename T, typename Work>
void for_channels(const Batch& batch, const Work& work) {
  if (batch.images * batch.channels * batch.size == 0) return;
  const std::int64_t in_block = std::min(std::max<std::int64_t>(BLOCK<T> / batch.size, 1), MOST_PLANES);
  const std::int64_t each = std::min(in_block, (batch.channels + CHANNEL_GROUPS - 1) / CHANNEL_GROUPS);
  const std::int64_t groups = (batch.channels + each - 1) / each;
#pragma omp parallel for schedule(static) num_threads(num_threads) \
    if (batch.images * batch.channels * batch.size > PARALLEL_FROM)
  for (std::int64_t group = 0; group < groups; ++group) {
    const std::int64_t first = group * each;
    work(first, Block{std::min(each, batch.channels - first), batch.size});
  }
}

// mean and biased variance of a block's channels over all images.
template <typename T>
void statistics(const T* x, const Batch& batch, std::int64_t first, const Block& block, T* mean, T* variance) {
  std::fill_n(mean, block.planes, T(0));
  std::fill_n(variance, block.planes, T(0));
  for (std::int64_t image = 0; image < batch.images; ++image) {
    const T* planes = x + batch.at(image, first);
    PerPlane<T> means, squares;
    for_vectors<T, 0, 1>(block, {}, {means}, [=](auto vector, auto) { return Vectors<T, 1>{vector.load(planes)}; });
    for (std::int64_t p = 0; p < block.planes; ++p) means[p] /= static_cast<T>(batch.size);
    for_vectors<T, 1, 1>(block, {means}, {squares}, [=](auto vector, auto own) {
      const Vector<T> d = vector.load(planes) - own[0];
      return Vectors<T, 1>{d * d};
    });
    const T before = static_cast<T>(image), weight = 1 / (before + 1);
    for (std::int64_t p = 0; p < block.planes; ++p) {
      const T away = means[p] - mean[p];
      mean[p] += away * weight;
      variance[p] += squares[p] + away * away * before * weight * static_cast<T>(batch.size);
    }
  }
  for (std::int64_t p = 0; p < block.planes; ++p) variance[p] /= static_cast<T>(batch.images * batch.size);
}

// A block's numbers gamma s, beta and mean, padded for vectors.
template <typename T>
struct ChannelNumbers {
  PerPlane<T> mean, slope, beta;

  ChannelNumbers(const Norm<T>& norm, std::int64_t first, const Block& block) {
    for (std::int64_t p = 0; p < block.planes; ++p) {
      mean[p] = norm.mean[first + p];
      slope[p] = norm.gamma[first + p] * norm.scale[first + p];
      beta[p] = norm.beta[first + p];
    }
  }
};

template <typename T>
inline Vector<T> normalised(Vector<T> x, Vector<T> mean, Vector<T> slope, Vector<T> beta) {
  return (x - mean) * slope + beta;
}

// y of x and, unless null, residual; `norm` has the statistics.
template <typename T>
void normalise(const T* x, const T* residual, T* y, const Batch& batch, const Norm<T>& norm, std::int64_t first,
               const Block& block) {
  const ChannelNumbers<T> of(norm, first, block);
  const Clamp<T> clamp = norm.clamp;
  for (std::int64_t image = 0; image < batch.images; ++image) {
    const std::int64_t at = batch.at(image, first);
    for_vectors<T, 3, 0>(block, {of.mean, of.slope, of.beta}, {}, [=](auto vector, auto own) {
      prefetch(x + at + vector.at);
      prefetch_for_write(y + at + vector.at);
      Vector<T> value = normalised<T>(vector.load(x + at), own[0], own[1], own[2]);
      if (residual) value += vector.load(residual + at);
      vector.store(y + at, clamp(value));
      return Vectors<T, 0>{};
    });
  }
}

// running_mean, running_variance: null for given statistics, which norm.mean and norm.scale then already have.
template <typename T>
void batch_norm(const T* x, const T* residual, T* y, const Batch& batch, const Norm<T>& norm, T epsilon, T momentum,
                  T* running_mean, T* running_variance) {
  for_channels<T>(batch, [=](std::int64_t first, const Block& block) {
    if (running_mean) {
      PerPlane<T> variance;
      statistics<T>(x, batch, first, block, norm.mean + first, variance);
      for (std::int64_t p = 0; p < block.planes; ++p) {
        const std::int64_t c = first + p;
        norm.scale[c] = 1 / std::sqrt(variance[p] + epsilon);
        running_mean[c] = running_mean[c] * momentum + norm.mean[c] * (1 - momentum);
        running_variance[c] = running_variance[c] * momentum + variance[p] * (1 - momentum);
      }
    }
    normalise<T>(x, residual, y, batch, norm, first, block);
  });
}

// y: the output, where a residual was added, else null. masked: where grad_output goes that the clamp let pass, or null.
template <typename T>
struct NormGradients {
  const T *x, *y, *grad_output;
  T *grad_input, *grad_gamma, *grad_beta, *masked;
};

// sum(g) and sum(g d) of a block's channels.
template <typename T>
void gradient_sums(const NormGradients<T>& of, const Batch& batch, const Norm<T>& norm,
                   const ChannelNumbers<T>& numbers, std::int64_t first, const Block& block, T* sum_g, T* sum_gd) {
  const Clamp<T> clamp = norm.clamp;
  std::fill_n(sum_g, block.planes, T(0));
  std::fill_n(sum_gd, block.planes, T(0));
  for (std::int64_t image = 0; image < batch.images; ++image) {
    const std::int64_t at = batch.at(image, first);
    PerPlane<T> plane_g, plane_gd;
    for_vectors<T, 3, 2>(block, {numbers.mean, numbers.slope, numbers.beta}, {plane_g, plane_gd},
                         [=](auto vector, auto own) {
                           const Vector<T> x = vector.load(of.x + at);
                           const Vector<T> y =
                               of.y ? vector.load(of.y + at) : normalised<T>(x, own[0], own[1], own[2]);
                           const Vector<T> g = clamp.passed(y, vector.load(of.grad_output + at));
                           if (of.masked) vector.store(of.masked + at, g);
                           return Vectors<T, 2>{g, g * (x - own[0])};
                         });
    for (std::int64_t p = 0; p < block.planes; ++p) sum_g[p] += plane_g[p], sum_gd[p] += plane_gd[p];
  }
}

// `given`: the statistics were.
template <typename T>
void batch_norm_backward(const NormGradients<T>& of, const Batch& batch, const Norm<T>& norm, bool given) {
  const T n = static_cast<T>(batch.images * batch.size);
  for_channels<T>(batch, [=](std::int64_t first, const Block& block) {
    const ChannelNumbers<T> numbers(norm, first, block);
    PerPlane<T> shift, slope;  // of g and of d in grad_input
    gradient_sums<T>(of, batch, norm, numbers, first, block, shift, slope);
    for (std::int64_t p = 0; p < block.planes; ++p) {
      const T s = norm.scale[first + p];
      of.grad_beta[first + p] = shift[p];
      of.grad_gamma[first + p] = slope[p] * s;
      shift[p] *= given ? T(0) : numbers.slope[p] / n;
      slope[p] *= given ? T(0) : numbers.slope[p] * s * s / n;
    }
    const Clamp<T> clamp = norm.clamp;
    for (std::int64_t image = 0; image < batch.images; ++image) {
      const std::int64_t at = batch.at(image, first);
      for_vectors<T, 5, 0>(block, {numbers.mean, numbers.slope, numbers.beta, shift, slope}, {},
                           [=](auto vector, auto own) {
                             prefetch_for_write(of.grad_input + at + vector.at);
                             const Vector<T> x = vector.load(of.x + at);
                             const Vector<T> g =
                                 of.masked ? vector.load(of.masked + at)
                                           : clamp.passed(normalised<T>(x, own[0], own[1], own[2]),
                                                          vector.load(of.grad_output + at));
                             vector.store(of.grad_input + at, g * own[1] - own[3] - (x - own[0]) * own[4]);
                             return Vectors<T, 0>{};
                           });
    }
  });
}

}  // namespace
