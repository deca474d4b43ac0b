// SimAM, forward and backward, fused: a few channel planes at a time, which stay in L1. With it, or alone, the epilogue
// of a convolution, bias and ReLU, which Paddle's own CPU kernels do on one thread.
//
// With M neurons in a plane, n = max(M - 1, 1), d = x - mean, v = sum(d^2) / n, c = 1 / (4 (v + lambda)):
//   z = c d^2 + 1/2,  s = sigmoid(z),  y = (x + b) s
// where b, the bias of the plane's channel, changes neither d nor v. With g = grad_output, a = g (x + b) s (1 - s):
//   grad_input_j = g_j s_j + 2 c a_j d_j - (2 c / M) sum(a d) - (8 c^2 / n) sum(a d^2) d_j
//   grad_bias = sum(grad_input) = sum(g s)
// With a ReLU, g is masked where x + b <= 0. Saved for backward: x, and mean and c of each plane.
//
// Planes are processed in blocks that fit into L1, one pass after another, so that the reductions of several planes
// overlap. A pass goes through a block in contiguous vectors; in the tail vector of a plane, which reaches
// into the next ones, each lane uses the statistics of its own plane and adds to the sums of that plane.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "lanes.h"

namespace {

int num_threads = 1;

constexpr std::int64_t PARALLEL_FROM = 16384;  // neurons; below, a parallel region costs more than it gains

constexpr std::int64_t MOST_PLANES = 256;  // of a block
template <typename T>
constexpr std::int64_t BLOCK = 8192 / sizeof(T);  // its neurons, about; x, g and the result fit into 32 KiB

// Software prefetch, one block ahead: the hardware's own does not reach as far.
template <typename T>
inline void prefetch(const T* at) {
  __builtin_prefetch(at + BLOCK<T>);
}
template <typename T>
inline void prefetch_for_write(T* at) {
  __builtin_prefetch(at + BLOCK<T>, 1);
}

template <typename T>
inline Vector<T> sigmoid_weight(Vector<T> d, Vector<T> scale) {
  constexpr T LOG2_E = 1.442695040888963407;
  return T(1) / (T(1) + power_of_2(d * d * (scale * -LOG2_E) - LOG2_E / 2));
}

// Some planes next to each other, each `size` neurons.
struct Block {
  std::int64_t planes, size;
};

// A number for each plane of a block, padded so that a vector can be loaded at the last.
template <typename T>
using PerPlane = T[MOST_PLANES + WIDTH<T>];

template <typename T, std::size_t N>
using Vectors = std::array<Vector<T>, N>;

// A vector inside one plane.
template <typename T>
struct FullVector {
  std::int64_t at;

  Vector<T> load(const T* block) const { return ::load(block + at); }
  void store(T* block, Vector<T> value) const { ::store<T>(block + at, value); }
};

// The tail vector of a plane: it reaches into the next planes, or behind the end of the block, where it is partial.
template <typename T>
struct TailVector {
  std::int64_t at;
  std::size_t bytes;    // of it that belong to the block
  Integers<T> ahead{};  // how many planes after the first a lane's is

  TailVector(std::int64_t at, std::int64_t plane, const Block& block)
      : at(at), bytes(std::min<std::int64_t>(block.planes * block.size - at, WIDTH<T>) * sizeof(T)) {
    Integers<T> lanes;
    for (int lane = 0; lane < WIDTH<T>; ++lane) lanes[lane] = lane;
    for (std::int64_t edge = (plane + 1) * block.size - at; edge < WIDTH<T>; edge += block.size)
      ahead -= lanes >= static_cast<int>(edge);
  }

  Vector<T> load(const T* block) const {
    if (bytes == VECTOR_BYTES) return ::load(block + at);
    Vector<T> value{};
    std::memcpy(&value, block + at, bytes);
    return value;
  }
  void store(T* block, Vector<T> value) const {
    if (bytes == VECTOR_BYTES) return ::store<T>(block + at, value);
    std::memcpy(block + at, &value, bytes);
  }
};

// Horizontal sums of `count` vectors.
template <typename T>
inline void add_up(Vector<T>* vectors, std::int64_t count, T* to) {
  if (count == WIDTH<T>) return store<T>(to, sums<T>(vectors));
  for (std::int64_t i = 0; i < count; ++i) to[i] = sum<T>(vectors[i]);
}

// Calls `work(vector, its planes' numbers)` for all vectors of a block, where numbers[m][p] is of plane p.
// to[n][p] becomes the sum over plane p of the n-th of what it returns.
template <typename T, std::size_t M, std::size_t N, typename Work>
inline void for_vectors(const Block& block, std::array<const T*, M> numbers, std::array<T*, N> to, const Work& work) {
  Vectors<T, N> last{};  // of the last tail vector,
  Integers<T> owner{};   // and the plane of each of its lanes
  std::int64_t at = 0;
  for (std::int64_t first = 0; first < block.planes; first += WIDTH<T>) {
    const std::int64_t count = std::min<std::int64_t>(block.planes - first, WIDTH<T>);
    std::array<Vector<T>[WIDTH<T>], N> per_plane;
    for (std::int64_t p = first; p < first + count; ++p) {
      const std::int64_t end = (p + 1) * block.size;
      Vectors<T, M> own;
      Vectors<T, N> totals;
      for (std::size_t m = 0; m < M; ++m) own[m] = Vector<T>{} + numbers[m][p];
      for (std::size_t n = 0; n < N; ++n) totals[n] = owner == static_cast<int>(p) ? last[n] : Vector<T>{};
      for (; at + WIDTH<T> <= end; at += WIDTH<T>) {
        const Vectors<T, N> terms = work(FullVector<T>{at}, own);
        for (std::size_t n = 0; n < N; ++n) totals[n] += terms[n];
      }
      if (at < end) {
        const TailVector<T> vector(at, p, block);
        for (std::size_t m = 0; m < M; ++m) own[m] = __builtin_shuffle(load(numbers[m] + p), vector.ahead);
        last = work(vector, own);
        owner = vector.ahead + static_cast<int>(p);
        for (std::size_t n = 0; n < N; ++n) totals[n] += vector.ahead == 0 ? last[n] : Vector<T>{};
        at += WIDTH<T>;
      }
      for (std::size_t n = 0; n < N; ++n) per_plane[n][p - first] = totals[n];
    }
    for (std::size_t n = 0; n < N; ++n) add_up<T>(per_plane[n], count, to[n] + first);
  }
}

template <typename T>
inline T degrees_of_freedom(const Block& block) {
  return static_cast<T>(std::max<std::int64_t>(block.size - 1, 1));
}

// The epilogue of a convolution: a bias for each channel, unless null, and a ReLU, with SimAM between them or alone.
// NaN stays NaN.
template <typename T>
struct Epilogue {
  const T* bias;
  std::int64_t channels;
  bool relu;

  T floor() const { return relu ? T(0) : -std::numeric_limits<T>::infinity(); }
  // Those of a block's planes.
  void biases(std::int64_t first, const Block& block, T* to) const {
    for (std::int64_t p = 0; p < block.planes; ++p) to[p] = bias ? bias[(first + p) % channels] : T(0);
  }
};

// The block begins with plane `first`. BIASED is a template parameter because small planes without a bias then take a
// tenth less time.
template <typename T, bool BIASED>
void forward_block(const T* __restrict x, T* __restrict y, T* __restrict mean, T* __restrict scale, std::int64_t first,
                   const Block& block, T e_lambda, const Epilogue<T>& epilogue) {
  PerPlane<T> means, scales, biases;
  std::array<const T*, 2 + BIASED> numbers{means, scales};
  if constexpr (BIASED) {
    epilogue.biases(first, block, biases);
    numbers[2] = biases;
  }
  const T floor = epilogue.floor();
  for_vectors<T, 0, 1>(block, {}, {means}, [=](auto vector, auto) { return Vectors<T, 1>{vector.load(x)}; });
  for (std::int64_t p = 0; p < block.planes; ++p) mean[p] = means[p] /= static_cast<T>(block.size);
  for_vectors<T, 1, 1>(block, {means}, {scales}, [=](auto vector, auto own) {
    const auto [mu] = own;
    const Vector<T> d = vector.load(x) - mu;
    return Vectors<T, 1>{d * d};
  });
  for (std::int64_t p = 0; p < block.planes; ++p)
    scale[p] = scales[p] = T(1) / (T(4) * (scales[p] / degrees_of_freedom<T>(block) + e_lambda));
  for_vectors<T, 2 + BIASED, 0>(block, numbers, {}, [=](auto vector, auto own) {
    prefetch(x + vector.at);
    prefetch_for_write(y + vector.at);
    const Vector<T> value = vector.load(x), s = sigmoid_weight<T>(value - own[0], own[1]);
    Vector<T> biased = value;
    if constexpr (BIASED) biased += own[2];
    const Vector<T> result = biased * s;
    vector.store(y, result < floor ? Vector<T>{} : result);
    return Vectors<T, 0>{};
  });
}

// grad_bias[p] becomes what plane p adds to the gradient of its channel's bias, if there is one.
template <typename T, bool BIASED>
void backward_block(const T* __restrict x, const T* __restrict g, T* __restrict grad_input, const T* __restrict mean,
                    const T* __restrict scale, T* __restrict grad_bias, std::int64_t first, const Block& block,
                    const Epilogue<T>& epilogue) {
  PerPlane<T> means, scales, biases, shifts, slopes;
  std::copy(mean, mean + block.planes, means);
  std::copy(scale, scale + block.planes, scales);
  std::array<const T*, 2 + BIASED> numbers{means, scales};
  std::array<T*, 2 + BIASED> sums{shifts, slopes};
  if constexpr (BIASED) {
    epilogue.biases(first, block, biases);
    numbers[2] = biases;
    sums[2] = grad_bias;
  }
  const T floor = epilogue.floor();
  for_vectors<T, 2 + BIASED, 2 + BIASED>(block, numbers, sums, [=](auto vector, auto own) {
    prefetch(x + vector.at);
    prefetch(g + vector.at);
    prefetch_for_write(grad_input + vector.at);
    const Vector<T> value = vector.load(x), d = value - own[0], s = sigmoid_weight<T>(d, own[1]);
    Vector<T> biased = value;
    if constexpr (BIASED) biased += own[2];
    const Vector<T> grad = biased <= floor ? Vector<T>{} : vector.load(g);
    const Vector<T> gs = grad * s, ad = (gs - gs * s) * (biased * d);
    vector.store(grad_input, gs + ad * (T(2) * own[1]));
    Vectors<T, 2 + BIASED> terms{ad, ad * d};
    if constexpr (BIASED) terms[2] = gs;
    return terms;
  });
  for (std::int64_t p = 0; p < block.planes; ++p) {
    shifts[p] *= T(2) * scales[p] / static_cast<T>(block.size);
    slopes[p] *= T(8) * scales[p] * scales[p] / degrees_of_freedom<T>(block);
  }
  for_vectors<T, 3, 0>(block, {means, shifts, slopes}, {}, [=](auto vector, auto own) {
    const auto [mu, shift, slope] = own;
    vector.store(grad_input, vector.load(grad_input) - (shift + (vector.load(x) - mu) * slope));
    return Vectors<T, 0>{};
  });
}

// Calls `work(first plane, block)` for all planes, shared among the threads.
template <typename T, typename Work>
void for_blocks(std::int64_t planes, std::int64_t size, const Work& work) {
  if (planes * size == 0) return;
  std::int64_t per_block = std::min(std::max<std::int64_t>(BLOCK<T> / size, 1), MOST_PLANES);
  if (per_block > WIDTH<T>) per_block -= per_block % WIDTH<T>;  // blocks begin at vector boundaries
  const std::int64_t blocks = (planes + per_block - 1) / per_block;
#pragma omp parallel for schedule(static) num_threads(num_threads) if (planes * size > PARALLEL_FROM)
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t first = b * per_block, count = std::min(per_block, planes - first);
    work(first, Block{count, size});
  }
}

// The bias of a convolution and a ReLU, in place.
template <typename T>
void add_bias(T* x, std::int64_t planes, std::int64_t size, const Epilogue<T>& epilogue) {
  const T floor = epilogue.floor();
  for_blocks<T>(planes, size, [=](std::int64_t first, const Block& block) {
    PerPlane<T> biases;
    epilogue.biases(first, block, biases);
    T* block_x = x + first * size;
    for_vectors<T, 1, 0>(block, {biases}, {}, [=](auto vector, auto own) {
      const Vector<T> value = vector.load(block_x) + own[0];
      vector.store(block_x, value < floor ? Vector<T>{} : value);
      return Vectors<T, 0>{};
    });
  });
}

// Reduction over the planes of each channel.
template <typename T>
void sum_channels(const std::vector<T>& per_plane, T* sums, std::int64_t channels) {
  const std::int64_t planes = per_plane.size();
  for (std::int64_t c = 0; c < channels; ++c) {
    double total = 0;
    for (std::int64_t p = c; p < planes; p += channels) total += per_plane[p];
    sums[c] = static_cast<T>(total);
  }
}

// Backward of `add_bias`, with y its output. Without a ReLU grad_input is g itself: null here.
template <typename T>
void backward_bias(const T* y, const T* g, T* grad_input, T* grad_bias, std::int64_t planes, std::int64_t channels,
                   std::int64_t size) {
  std::vector<T> per_plane(planes);
  T* per_plane_sums = per_plane.data();
  for_blocks<T>(planes, size, [=](std::int64_t first, const Block& block) {
    const std::int64_t begin = first * size;
    for_vectors<T, 0, 1>(block, {}, {per_plane_sums + first}, [=](auto vector, auto) {
      const Vector<T> grad = vector.load(g + begin);
      if (!grad_input) return Vectors<T, 1>{grad};
      prefetch(y + begin + vector.at);
      prefetch(g + begin + vector.at);
      prefetch_for_write(grad_input + begin + vector.at);
      const Vector<T> passed = vector.load(y + begin) > T(0) ? grad : Vector<T>{};
      vector.store(grad_input + begin, passed);
      return Vectors<T, 1>{passed};
    });
  });
  sum_channels(per_plane, grad_bias, channels);
}

}  // namespace
