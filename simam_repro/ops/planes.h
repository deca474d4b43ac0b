// SimAM, forward and backward, fused: a few channel planes at a time, which stay in the processor's cache.
// With it, or without, the bias of a convolution and a ReLU, which Paddle's own CPU kernels do on one thread, slowly.
//
// With M neurons in a plane, n = max(M - 1, 1), d = x - mean, v = sum(d^2) / n, c = 1 / (4 (v + lambda)):
//   z = c d^2 + 1/2,  s = sigmoid(z),  y = (x + b) s
// where b, the bias of the plane's channel, changes neither d nor v. With g the gradient of y, a = g (x + b) s (1 - s):
//   grad_j = g_j s_j + 2 c a_j d_j - (2 c / M) sum(a d) - (8 c^2 / n) sum(a d^2) d_j
//   gradient of b = sum(grad) = sum(g s)
// A ReLU behind it lets g through where x + b > 0. Saved for the backward pass: x, and mean and c of each plane.
//
// Planes are done in blocks that fit into the first-level cache, step by step: the planes of a step do not wait for
// each other. A step goes through a block in vectors of 64 bytes without a gap; in a vector that straddles planes each
// lane takes the numbers of its own plane, and adds to the sums of that one.

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

constexpr std::int64_t PARALLEL_FROM = 16384;  // neurons; fewer are not worth waking the threads

constexpr std::int64_t MOST_PLANES = 256;  // of a block
template <typename T>
constexpr std::int64_t BLOCK = 8192 / sizeof(T);  // its neurons, about; x, g and the result fit into 32 KiB

// Asks for what will be needed a block later: a processor does not foresee as much by itself while it computes.
template <typename T>
inline void ask(const T* at) {
  __builtin_prefetch(at + BLOCK<T>);
}
template <typename T>
inline void ask_to_write(T* at) {
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

// A number for each plane of a block, with room for a vector that begins at the last.
template <typename T>
using OfPlanes = T[MOST_PLANES + WIDTH<T>];

template <typename T, std::size_t N>
using Vectors = std::array<Vector<T>, N>;

// A vector within a plane: `load` and `store` reach its neurons in a block.
template <typename T>
struct Within {
  std::int64_t at;

  Vector<T> load(const T* block) const { return ::load(block + at); }
  void store(T* block, Vector<T> value) const { ::store<T>(block + at, value); }
};

// One that begins in a plane and reaches beyond it, into the next planes or to the end of the block.
template <typename T>
struct Straddling {
  std::int64_t at;
  std::size_t bytes;    // of it that belong to the block
  Integers<T> ahead{};  // how many planes after the first a lane's is

  Straddling(std::int64_t at, std::int64_t plane, const Block& block)
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

// The sums of `count` vectors.
template <typename T>
inline void add_up(const Vector<T>* vectors, std::int64_t count, T* to) {
  if (count == WIDTH<T>) return store<T>(to, sums(vectors));
  for (std::int64_t i = 0; i < count; ++i) to[i] = sum(vectors[i]);
}

// Calls `work(vector, its planes' numbers)` for all vectors of a block, where numbers[m][p] is of plane p.
// to[n][p] becomes the sum over plane p of the n-th of what it returns.
template <typename T, std::size_t M, std::size_t N, typename Work>
inline void walk(const Block& block, std::array<const T*, M> numbers, std::array<T*, N> to, const Work& work) {
  Vectors<T, N> last{};  // of the vector that straddled,
  Integers<T> owner{};   // and which plane its lanes belong to
  std::int64_t at = 0;
  for (std::int64_t first = 0; first < block.planes; first += WIDTH<T>) {
    const std::int64_t count = std::min<std::int64_t>(block.planes - first, WIDTH<T>);
    std::array<Vector<T>[WIDTH<T>], N> of_planes;
    for (std::int64_t p = first; p < first + count; ++p) {
      const std::int64_t end = (p + 1) * block.size;
      Vectors<T, M> own;
      Vectors<T, N> totals;
      for (std::size_t m = 0; m < M; ++m) own[m] = Vector<T>{} + numbers[m][p];
      for (std::size_t n = 0; n < N; ++n) totals[n] = owner == static_cast<int>(p) ? last[n] : Vector<T>{};
      for (; at + WIDTH<T> <= end; at += WIDTH<T>) {
        const Vectors<T, N> terms = work(Within<T>{at}, own);
        for (std::size_t n = 0; n < N; ++n) totals[n] += terms[n];
      }
      if (at < end) {
        const Straddling<T> vector(at, p, block);
        for (std::size_t m = 0; m < M; ++m) own[m] = __builtin_shuffle(load(numbers[m] + p), vector.ahead);
        last = work(vector, own);
        owner = vector.ahead + static_cast<int>(p);
        for (std::size_t n = 0; n < N; ++n) totals[n] += vector.ahead == 0 ? last[n] : Vector<T>{};
        at += WIDTH<T>;
      }
      for (std::size_t n = 0; n < N; ++n) of_planes[n][p - first] = totals[n];
    }
    for (std::size_t n = 0; n < N; ++n) add_up<T>(of_planes[n], count, to[n] + first);
  }
}

template <typename T>
inline T degrees_of_freedom(const Block& block) {
  return static_cast<T>(std::max<std::int64_t>(block.size - 1, 1));
}

// What goes around SimAM, or instead of it: a bias for each channel, unless null, and a ReLU. NaN stays NaN.
template <typename T>
struct Around {
  const T* bias;
  std::int64_t channels;
  bool relu;

  T floor() const { return relu ? T(0) : -std::numeric_limits<T>::infinity(); }
  // Those of a block's planes.
  void biases(std::int64_t first, const Block& block, T* to) const {
    for (std::int64_t p = 0; p < block.planes; ++p) to[p] = bias ? bias[(first + p) % channels] : T(0);
  }
};

// The block begins with plane `first`. Without a bias, so said to the compiler, small planes take a tenth less time.
template <typename T, bool BIASED>
void forward_block(const T* __restrict x, T* __restrict y, T* __restrict mean, T* __restrict scale, std::int64_t first,
                   const Block& block, T e_lambda, const Around<T>& around) {
  OfPlanes<T> means, scales, biases;
  std::array<const T*, 2 + BIASED> numbers{means, scales};
  if constexpr (BIASED) {
    around.biases(first, block, biases);
    numbers[2] = biases;
  }
  const T floor = around.floor();
  walk<T, 0, 1>(block, {}, {means}, [=](auto vector, auto) { return Vectors<T, 1>{vector.load(x)}; });
  for (std::int64_t p = 0; p < block.planes; ++p) mean[p] = means[p] /= static_cast<T>(block.size);
  walk<T, 1, 1>(block, {means}, {scales}, [=](auto vector, auto own) {
    const auto [mu] = own;
    const Vector<T> d = vector.load(x) - mu;
    return Vectors<T, 1>{d * d};
  });
  for (std::int64_t p = 0; p < block.planes; ++p)
    scale[p] = scales[p] = T(1) / (T(4) * (scales[p] / degrees_of_freedom<T>(block) + e_lambda));
  walk<T, 2 + BIASED, 0>(block, numbers, {}, [=](auto vector, auto own) {
    ask(x + vector.at);
    ask_to_write(y + vector.at);
    const Vector<T> value = vector.load(x), s = sigmoid_weight<T>(value - own[0], own[1]);
    Vector<T> biased = value;
    if constexpr (BIASED) biased += own[2];
    const Vector<T> result = biased * s;
    vector.store(y, result < floor ? Vector<T>{} : result);
    return Vectors<T, 0>{};
  });
}

// of_bias[p] becomes the gradient of plane p's bias, if it has one.
template <typename T, bool BIASED>
void backward_block(const T* __restrict x, const T* __restrict g, T* __restrict gradient, const T* __restrict mean,
                    const T* __restrict scale, T* __restrict of_bias, std::int64_t first, const Block& block,
                    const Around<T>& around) {
  OfPlanes<T> means, scales, biases, shifts, slopes;
  std::copy(mean, mean + block.planes, means);
  std::copy(scale, scale + block.planes, scales);
  std::array<const T*, 2 + BIASED> numbers{means, scales};
  std::array<T*, 2 + BIASED> sums{shifts, slopes};
  if constexpr (BIASED) {
    around.biases(first, block, biases);
    numbers[2] = biases;
    sums[2] = of_bias;
  }
  const T floor = around.floor();
  walk<T, 2 + BIASED, 2 + BIASED>(block, numbers, sums, [=](auto vector, auto own) {
    ask(x + vector.at);
    ask(g + vector.at);
    ask_to_write(gradient + vector.at);
    const Vector<T> value = vector.load(x), d = value - own[0], s = sigmoid_weight<T>(d, own[1]);
    Vector<T> biased = value;
    if constexpr (BIASED) biased += own[2];
    const Vector<T> upper = biased <= floor ? Vector<T>{} : vector.load(g);
    const Vector<T> gs = upper * s, ad = (gs - gs * s) * (biased * d);
    vector.store(gradient, gs + ad * (T(2) * own[1]));
    Vectors<T, 2 + BIASED> terms{ad, ad * d};
    if constexpr (BIASED) terms[2] = gs;
    return terms;
  });
  for (std::int64_t p = 0; p < block.planes; ++p) {
    shifts[p] *= T(2) * scales[p] / static_cast<T>(block.size);
    slopes[p] *= T(8) * scales[p] * scales[p] / degrees_of_freedom<T>(block);
  }
  walk<T, 3, 0>(block, {means, shifts, slopes}, {}, [=](auto vector, auto own) {
    const auto [mu, shift, slope] = own;
    vector.store(gradient, vector.load(gradient) - (shift + (vector.load(x) - mu) * slope));
    return Vectors<T, 0>{};
  });
}

// Calls `work(first plane, block)` for all planes, shared among the threads.
template <typename T, typename Work>
void for_blocks(std::int64_t planes, std::int64_t size, const Work& work) {
  if (planes * size == 0) return;
  std::int64_t per_block = std::min(std::max<std::int64_t>(BLOCK<T> / size, 1), MOST_PLANES);
  if (per_block > WIDTH<T>) per_block -= per_block % WIDTH<T>;  // blocks begin where whole vectors do
  const std::int64_t blocks = (planes + per_block - 1) / per_block;
#pragma omp parallel for schedule(static) num_threads(num_threads) if (planes * size > PARALLEL_FROM)
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t first = b * per_block, count = std::min(per_block, planes - first);
    work(first, Block{count, size});
  }
}

// The bias of a convolution and a ReLU, in place.
template <typename T>
void add_bias(T* x, std::int64_t planes, std::int64_t size, const Around<T>& around) {
  const T floor = around.floor();
  for_blocks<T>(planes, size, [=](std::int64_t first, const Block& block) {
    OfPlanes<T> biases;
    around.biases(first, block, biases);
    T* of_block = x + first * size;
    walk<T, 1, 0>(block, {biases}, {}, [=](auto vector, auto own) {
      const Vector<T> value = vector.load(of_block) + own[0];
      vector.store(of_block, value < floor ? Vector<T>{} : value);
      return Vectors<T, 0>{};
    });
  });
}

// What the planes of each channel add up to.
template <typename T>
void sum_channels(const std::vector<T>& of_planes, T* sums, std::int64_t channels) {
  const std::int64_t planes = of_planes.size();
  for (std::int64_t c = 0; c < channels; ++c) {
    double total = 0;
    for (std::int64_t p = c; p < planes; p += channels) total += of_planes[p];
    sums[c] = static_cast<T>(total);
  }
}

// Backward of `add_bias`, with y its result: without a ReLU the gradient of x is g itself, and `gradient` is not used.
template <typename T>
void bias_gradient(const T* y, const T* g, T* gradient, T* of_bias, std::int64_t planes, std::int64_t channels,
                   std::int64_t size) {
  std::vector<T> of_planes(planes);
  T* of_plane = of_planes.data();
  for_blocks<T>(planes, size, [=](std::int64_t first, const Block& block) {
    const std::int64_t begin = first * size;
    walk<T, 0, 1>(block, {}, {of_plane + first}, [=](auto vector, auto) {
      const Vector<T> upper = vector.load(g + begin);
      if (!gradient) return Vectors<T, 1>{upper};
      ask(y + begin + vector.at);
      ask(g + begin + vector.at);
      ask_to_write(gradient + begin + vector.at);
      const Vector<T> passed = vector.load(y + begin) > T(0) ? upper : Vector<T>{};
      vector.store(gradient + begin, passed);
      return Vectors<T, 1>{passed};
    });
  });
  sum_channels(of_planes, of_bias, channels);
}

}  // namespace
