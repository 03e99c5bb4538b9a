// Products of tiles. A block of c is held in registers while k runs; compilers know the vectors of
// this machine from -march=native.
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define ROWS 12
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define ROWS 6
#else
#define VECTOR_BYTES 16
#define ROWS 6
#endif

// A block of `rows` rows and two vectors of columns.
#define DEFINE_BLOCK(name, type, vector, lanes)                                                 \
  typedef type vector                                                                           \
      __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(type)), may_alias));             \
  static inline __attribute__((always_inline)) void name(const type* a, const type* b, type* c, \
                                                         int64_t n, int64_t k, int rows) {      \
    vector total[ROWS][2];                                                                      \
    for (int r = 0; r < rows; ++r) {                                                            \
      total[r][0] = *(const vector*)(c + r * n);                                                \
      total[r][1] = *(const vector*)(c + r * n + lanes);                                        \
    }                                                                                           \
    for (int64_t p = 0; p < k; ++p) {                                                           \
      const vector first = *(const vector*)(b + p * n);                                         \
      const vector second = *(const vector*)(b + p * n + lanes);                                \
      for (int r = 0; r < rows; ++r) {                                                          \
        total[r][0] += a[r * k + p] * first;                                                    \
        total[r][1] += a[r * k + p] * second;                                                   \
      }                                                                                         \
    }                                                                                           \
    for (int r = 0; r < rows; ++r) {                                                            \
      *(vector*)(c + r * n) = total[r][0];                                                      \
      *(vector*)(c + r * n + lanes) = total[r][1];                                              \
    }                                                                                           \
  }

#define DEFINE_DOT(name, block, type, lanes)                                                \
  void name(const type* a, const type* b, type* c, int64_t m, int64_t n, int64_t k) {       \
    const int64_t whole = n / (2 * lanes) * (2 * lanes);                                    \
    for (int64_t column = 0; column < whole; column += 2 * lanes) {                         \
      int64_t row = 0;                                                                      \
      for (; row + ROWS <= m; row += ROWS) {                                                \
        block(a + row * k, b + column, c + row * n + column, n, k, ROWS);                   \
      }                                                                                     \
      for (; row + 4 <= m; row += 4) {                                                      \
        block(a + row * k, b + column, c + row * n + column, n, k, 4);                      \
      }                                                                                     \
      for (; row + 2 <= m; row += 2) {                                                      \
        block(a + row * k, b + column, c + row * n + column, n, k, 2);                      \
      }                                                                                     \
      for (; row < m; ++row) block(a + row * k, b + column, c + row * n + column, n, k, 1); \
    }                                                                                       \
    for (int64_t row = 0; row < m && whole < n; ++row) {                                    \
      for (int64_t p = 0; p < k; ++p) {                                                     \
        const type factor = a[row * k + p];                                                 \
        for (int64_t column = whole; column < n; ++column) {                                \
          c[row * n + column] += factor * b[p * n + column];                                \
        }                                                                                   \
      }                                                                                     \
    }                                                                                       \
  }

DEFINE_BLOCK(block_f32, float, Floats, (VECTOR_BYTES / 4))
DEFINE_BLOCK(block_f64, double, Doubles, (VECTOR_BYTES / 8))
DEFINE_DOT(heitu_dot_f32, block_f32, float, (VECTOR_BYTES / 4))
DEFINE_DOT(heitu_dot_f64, block_f64, double, (VECTOR_BYTES / 8))

void heitu_dot_i8(const int8_t* a, const int8_t* b, int32_t* c, int64_t m, int64_t n, int64_t k) {
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t p = 0; p < k; ++p) {
      const int32_t factor = a[row * k + p];
      for (int64_t column = 0; column < n; ++column) {
        c[row * n + column] += factor * b[p * n + column];
      }
    }
  }
}
