// Vectors of 64 bytes in GCC's own extension, which any processor can run, and powers of 2 for them.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int VECTOR_BYTES = 64;

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

using Float = Vector<float>;
using Double = Vector<double>;

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

inline float sum(Float v) {
  typedef float Half __attribute__((vector_size(32)));
  typedef float Quarter __attribute__((vector_size(16)));
  Half h[2];  // by way of memory in name only: GCC before 12 knows no __builtin_shufflevector
  std::memcpy(h, &v, sizeof h);
  h[0] += h[1];
  Quarter q[2];
  std::memcpy(q, h, sizeof q);
  q[0] += q[1];
  return (q[0][0] + q[0][2]) + (q[0][1] + q[0][3]);
}

inline double sum(Double v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

// Folds two vectors into one: of each run of 2 * RUN lanes the first RUN plus the others, a's beside b's.
template <int RUN>
inline Float fold(Float a, Float b) {
  Integers<float> low, high;
  for (int lane = 0; lane < WIDTH<float>; ++lane) {
    const int run = lane / RUN;
    low[lane] = lane - run % 2 * RUN + run % 2 * WIDTH<float>;
    high[lane] = low[lane] + RUN;
  }
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

// The sums of as many vectors as one has lanes, together: a third of the work of each by itself.
inline Float sums(const Float* of) {
  Float v[8];
  for (int i = 0; i < 8; ++i) v[i] = fold<8>(of[i], of[i + 8]);
  for (int i = 0; i < 4; ++i) v[i] = fold<4>(v[i], v[i + 4]);
  for (int i = 0; i < 2; ++i) v[i] = fold<2>(v[i], v[i + 2]);
  return fold<1>(v[0], v[1]);
}

inline Double sums(const Double* of) {
  Double totals;
  for (int lane = 0; lane < WIDTH<double>; ++lane) totals[lane] = sum(of[lane]);
  return totals;
}

// 2^t for t <= 0, as 2^k 2^f with |f| <= 1/2. The polynomial for 2^f is the one of degree 5 with the smallest relative
// error, 7.5e-8; one for exp alone would have degree 6, but 1 / (1 + 2^t) has a quarter of that error at most. NaN
// stays NaN.
inline Float power_of_2(Float t) {
  constexpr float ROUND = 12582912.0f + 127.0f;  // 1.5 * 2^23: adding it leaves k + 127 in the low bits
  t = t < -126.0f ? Float{} - 126.0f : t;
  const Float rounded = t + ROUND;
  const Float f = t - (rounded - ROUND);
  Float p = f * 1.327646804e-3f + 9.675541303e-3f;
  p = p * f + 5.550713286e-2f;
  p = p * f + 2.402211972e-1f;
  p = p * f + 6.931469671e-1f;
  p = p * f + 1.000000072f;
  return p * (Float)((Integers<float>)rounded << 23);
}

inline Double power_of_2(Double t) {
  for (int lane = 0; lane < WIDTH<double>; ++lane) t[lane] = std::exp2(t[lane]);
  return t;
}

}  // namespace
