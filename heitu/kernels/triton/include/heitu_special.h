// Special functions of CUDA's libdevice that C's library does not have. They are computed in
// double, and by iteration: nothing here is meant to be fast.
#ifndef HEITU_SPECIAL_H_
#define HEITU_SPECIAL_H_

#include "heitu_math_f64.h"

#define HT_SLOW static __attribute__((unused))

// The x >= 0 whose erfc is y, for 0 < y <= 1. Abramowitz and Stegun 26.2.23 begins, Halley's method
// ends.
HT_SLOW double ht_erfc_inverse(double y) {
  const double t = sqrt(-2.0 * log(0.5 * y));
  double x = t - (2.515517 + t * (0.802853 + t * 0.010328)) /
                     (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
  x *= 0x1.6a09e667f3bcdp-1;
  for (int i = 0; i < 3; ++i) {
    const double error = erfc(x) - y;
    x += error / (0x1.20dd750429b6dp+0 * exp(-x * x) - x * error);
  }
  return x;
}

HT_SLOW double ht_nv_erfinv(double y) {
  const double a = fabs(y);
  if (!(a < 1.0)) return a == 1.0 ? copysign(INFINITY, y) : NAN;
  if (a > 0.5) return copysign(ht_erfc_inverse(1.0 - a), y);
  // Near zero erf itself has the digits.
  double x = 0x1.c5bf891b4ef6bp-1 * a;
  for (int i = 0; i < 4; ++i) {
    const double error = erf(x) - a;
    x -= error / (0x1.20dd750429b6dp+0 * exp(-x * x) + x * error);
  }
  return copysign(a < 1e-9 ? 0x1.c5bf891b4ef6bp-1 * a : x, y);
}

HT_SLOW double ht_nv_erfcinv(double y) {
  if (!(y > 0.0 && y < 2.0)) return y == 0.0 ? INFINITY : y == 2.0 ? -INFINITY : NAN;
  if (y > 0.5 && y < 1.5) return ht_nv_erfinv(1.0 - y);
  return y < 1.0 ? ht_erfc_inverse(y) : -ht_erfc_inverse(2.0 - y);
}

// e^(x^2) erfc(x); the rounding error of x^2 counts, and from 20 on the asymptotic series is
// shorter.
HT_SLOW double ht_nv_erfcx(double x) {
  if (x < 20.0) {
    const double square = x * x;
    const double lost = fma(x, x, -square);
    const double value = exp(square);
    return isinf(value) ? value : value * erfc(x) * (1.0 + lost);
  }
  const double z = 0.5 / x / x;
  double term = 1.0, sum = 1.0;
  for (int k = 1; k < 12; ++k) {
    term *= -(2 * k - 1) * z;
    sum += term;
  }
  return sum * 0x1.20dd750429b6dp-1 / x;
}

HT_SLOW double ht_nv_normcdf(double x) { return 0.5 * erfc(-x * 0x1.6a09e667f3bcdp-1); }
HT_SLOW double ht_nv_normcdfinv(double p) { return -0x1.6a09e667f3bcdp+0 * ht_nv_erfcinv(2.0 * p); }

// The modified Bessel functions I0 and I1 (DLMF 10.25.2, and 10.40.1 from 30 on) of |x|.
HT_SLOW double ht_bessel_i(int order, double a) {
  if (!(a < INFINITY)) return a;
  if (a < 30.0) {
    const double z = 0.25 * a * a;
    double term = order ? 0.5 * a : 1.0, sum = term;
    for (int k = 1; term > sum * 0x1p-60; ++k) {
      term *= z / ((double)k * (k + order));
      sum += term;
    }
    return sum;
  }
  double term = 1.0, sum = 1.0;
  for (int k = 1; k < 40; ++k) {
    const double odd = 2 * k - 1;
    term *= (odd * odd - 4.0 * order) / (8.0 * a * k);
    sum += term;
  }
  const double half = exp(0.5 * a);  // e^a overflows before the function does
  return half * (sum / sqrt(0x1.921fb54442d18p+2 * a)) * half;
}

HT_SLOW double ht_nv_cyl_bessel_i0(double x) { return ht_bessel_i(0, fabs(x)); }
HT_SLOW double ht_nv_cyl_bessel_i1(double x) { return copysign(ht_bessel_i(1, fabs(x)), x); }

#define HT_BY_DOUBLE(name) \
  HT_SLOW float ht_nv_##name##f(float x) { return (float)ht_nv_##name(x); }
HT_BY_DOUBLE(erfinv)
HT_BY_DOUBLE(erfcinv)
HT_BY_DOUBLE(erfcx)
HT_BY_DOUBLE(normcdf)
HT_BY_DOUBLE(normcdfinv)
HT_BY_DOUBLE(cyl_bessel_i0)
HT_BY_DOUBLE(cyl_bessel_i1)
#undef HT_BY_DOUBLE

#endif  // HEITU_SPECIAL_H_
