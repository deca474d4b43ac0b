// Vectors of 64 bytes in GCC's own extension, which any processor can run, and exp for them.

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
  const Half h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const Quarter q = __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
  return (q[0] + q[2]) + (q[1] + q[3]);
}

inline double sum(Double v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

// exp(-z) for z >= 1/2 as 2^k 2^f, |f| <= 1/2; the polynomial for 2^f is Cephes' exp2f. NaN stays NaN.
inline Float exp_minus(Float z) {
  constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  Float t = z * -1.44269504088896341f;
  t = t < -126.0f ? Float{} - 126.0f : t;
  const Float rounded = t + ROUND;
  const Float f = t - (rounded - ROUND);
  Float p = f * 1.535336188e-4f + 1.339887440e-3f;
  p = p * f + 9.618437357e-3f;
  p = p * f + 5.550332471e-2f;
  p = p * f + 2.402264791e-1f;
  p = p * f + 6.931472028e-1f;
  p = p * f + 1.0f;
  return p * (Float)(((Integers<float>)rounded + 127) << 23);
}

inline Double exp_minus(Double z) {
  for (int lane = 0; lane < WIDTH<double>; ++lane) z[lane] = std::exp(-z[lane]);
  return z;
}

}  // namespace
