// Vectors of a chosen number of lanes, with which rows of a map are covered, and their shuffles.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "lanes.h"

#define ALWAYS_INLINE __attribute__((always_inline))

namespace {

template <typename T, int LANES>
struct Strips {
  typedef T Type __attribute__((vector_size(LANES * sizeof(T))));
};
template <typename T, int LANES>
using Strip = typename Strips<T, LANES>::Type;
template <typename T>
using LaneIndex = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

template <int LANES, typename T>
inline Strip<T, LANES> load_strip(const T* from) {
  Strip<T, LANES> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <int LANES, typename T>
inline void store_strip(T* to, Strip<T, LANES> value) {
  std::memcpy(to, &value, sizeof value);
}

// Calls `work` with the number of lanes, a constant, of the longest vector that a row of `width` fills.
template <typename T, typename Work>
void with_lanes(std::int64_t width, const Work& work) {
  constexpr int LONGEST = WIDTH<T>, MEDIUM = 32 / sizeof(T), SHORT = 16 / sizeof(T);
  if (width >= LONGEST) return work(std::integral_constant<int, LONGEST>());
  if (width >= MEDIUM) return work(std::integral_constant<int, MEDIUM>());
  if (width >= SHORT) return work(std::integral_constant<int, SHORT>());
  work(std::integral_constant<int, 1>());
}

// Calls `work(begin)` for runs of LENGTH that cover [0, size), size >= LENGTH. The last may overlap the one before.
template <int LENGTH, typename Work>
inline ALWAYS_INLINE void cover(std::int64_t size, const Work& work) {
  std::int64_t begin = 0;
  for (; begin + LENGTH <= size; begin += LENGTH) work(begin);
  if (begin < size) work(size - LENGTH);
}

template <int LANES, typename T>
inline Strip<LaneIndex<T>, LANES> lane_numbers() {
  Strip<LaneIndex<T>, LANES> lanes;
  for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
  return lanes;
}

// Shuffles, of at least two lanes. Lane i is lane `source(i)` of a, or from LANES on of b.
template <int LANES, typename T, typename Source>
inline ALWAYS_INLINE Strip<T, LANES> shuffled(Strip<T, LANES> a, Strip<T, LANES> b,
                                                               const Source& source) {
  Strip<LaneIndex<T>, LANES> sources;
#pragma GCC unroll 16
  for (int lane = 0; lane < LANES; ++lane) sources[lane] = source(lane);
  return __builtin_shuffle(a, b, sources);
}

// Every second number of a and b: a0 a2 a4 ..., or with FIRST = 1 a1 a3 a5 ...
template <int LANES, int FIRST, typename T>
inline Strip<T, LANES> every_second(Strip<T, LANES> a, Strip<T, LANES> b) {
  return shuffled<LANES, T>(a, b, [](int lane) { return 2 * lane + FIRST; });
}

// The lower or upper half of a0 b0 a1 b1 ...
template <int LANES, bool UPPER, typename T>
inline Strip<T, LANES> interleaved(Strip<T, LANES> a, Strip<T, LANES> b) {
  return shuffled<LANES, T>(a, b, [](int lane) { return (lane + UPPER * LANES) / 2 + lane % 2 * LANES; });
}

// 0 a0 a1 ...
template <int LANES, typename T>
inline Strip<T, LANES> after_zero(Strip<T, LANES> a) {
  return shuffled<LANES, T>(Strip<T, LANES>{}, a, [](int lane) { return lane + LANES - 1; });
}

// a1 a2 ... 0
template <int LANES, typename T>
inline Strip<T, LANES> before_zero(Strip<T, LANES> a) {
  return shuffled<LANES, T>(a, Strip<T, LANES>{}, [](int lane) { return lane + 1; });
}

// A square map of SIDE rows that is one vector, moved by some rows and columns; zeros come in from outside.
template <int SIDE, int ROWS_ON, int COLUMNS_ON, typename T>
inline Strip<T, SIDE * SIDE> moved(Strip<T, SIDE * SIDE> map) {
  if constexpr (ROWS_ON == 0 && COLUMNS_ON == 0) return map;
  return shuffled<SIDE * SIDE, T>(map, Strip<T, SIDE * SIDE>{}, [](int lane) {
    const int row = lane / SIDE - ROWS_ON, column = lane % SIDE - COLUMNS_ON;
    return 0 <= row && row < SIDE && 0 <= column && column < SIDE ? row * SIDE + column : SIDE * SIDE;
  });
}

}  // namespace
