// The longest vectors of the processor, in GCC's own extension, and powers of 2 for them. (Of longer ones GCC does
// comparisons and shuffles number by number.)

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

#ifdef __AVX512F__
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif
constexpr int LINE_BYTES = 64;  // of the cache

template <typename T>
struct Lanes;

template <>
struct Lanes<float> {
  typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));
  typedef std::int32_t Integers __attribute__((vector_size(VECTOR_BYTES)));
};

template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(VECTOR_BYTES)));
  typedef std::int64_t Integers __attribute__((vector_size(VECTOR_BYTES)));
};

template <typename T>
using Vector = typename Lanes<T>::Vector;
template <typename T>
using Integers = typename Lanes<T>::Integers;
template <typename T>
constexpr int WIDTH = VECTOR_BYTES / sizeof(T);
template <typename T>
constexpr int LINE = LINE_BYTES / sizeof(T);

template <typename T>
inline Vector<T> load(const T* from) {
  Vector<T> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
inline void store(T* to, Vector<T> value) {
  std::memcpy(to, &value, sizeof value);
}

// Halves onto each other, until one number is left.
template <typename T>
inline T sum(Vector<T> v) {
  T values[WIDTH<T>];
  std::memcpy(values, &v, sizeof v);
  for (int half = WIDTH<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) values[i] += values[i + half];
  return values[0];
}

// Folds two vectors into one: of each run of 2 * RUN lanes the first RUN plus the others, a's beside b's.
template <int RUN, typename T>
inline Vector<T> fold(Vector<T> a, Vector<T> b) {
  Integers<T> low, high;
  for (int lane = 0; lane < WIDTH<T>; ++lane) {
    const int run = lane / RUN;
    low[lane] = lane - run % 2 * RUN + run % 2 * WIDTH<T>;
    high[lane] = low[lane] + RUN;
  }
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

// The sums of 2 * RUN vectors, together, in the first RUN of `v`: a third of the work of each by itself.
template <typename T, int RUN = WIDTH<T> / 2>
inline Vector<T> sums(Vector<T>* v) {
  for (int i = 0; i < RUN; ++i) v[i] = fold<RUN, T>(v[i], v[i + RUN]);
  if constexpr (RUN > 1) return sums<T, RUN / 2>(v);
  return v[0];
}

// 2^t for t <= 0, as 2^k 2^f with |f| <= 1/2. The polynomial for 2^f is the one of degree 5 with the smallest relative
// error, 7.5e-8; one for exp alone would have degree 6, but 1 / (1 + 2^t) has a quarter of that error at most. NaN
// stays NaN.
inline Vector<float> power_of_2(Vector<float> t) {
  constexpr float ROUND = 12582912.0f + 127.0f;  // 1.5 * 2^23: adding it leaves k + 127 in the low bits
  t = t < -126.0f ? Vector<float>{} - 126.0f : t;
  const Vector<float> rounded = t + ROUND;
  const Vector<float> f = t - (rounded - ROUND);
  Vector<float> p = f * 1.327646804e-3f + 9.675541303e-3f;
  p = p * f + 5.550713286e-2f;
  p = p * f + 2.402211972e-1f;
  p = p * f + 6.931469671e-1f;
  p = p * f + 1.000000072f;
  return p * (Vector<float>)((Integers<float>)rounded << 23);
}

inline Vector<double> power_of_2(Vector<double> t) {
  for (int lane = 0; lane < WIDTH<double>; ++lane) t[lane] = std::exp2(t[lane]);
  return t;
}

}  // namespace
