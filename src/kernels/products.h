// What the two ways to multiply share: products in F32 (matmul_exact.cpp), and of rounded values (matmul.cpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/table.h"
#include "tensor/types.h"

namespace sonde::kernels {

// Below so many multiplications a fork-join costs more than it saves.
inline constexpr int64_t kSmall = 1 << 15;
inline constexpr int64_t kFew = 8;  // tokens

inline int index_of(const Type* type) { return int(type - all_types().data()); }
MatmulTask task_of(const Matrix& w);  // without x and y

// Rows of all products stand in one line, cut into units of rows; no unit crosses a product.
class Units {
 public:
  explicit Units(int64_t count) {
    if (count + 1 > kInline) many_.resize(std::size_t(count + 1)), first_ = many_.data();
    first_[0] = 0;
  }
  void set(int64_t product, int64_t units) { first_[product + 1] = first_[product] + units, products_ = product + 1; }
  int64_t total() const { return first_[products_]; }

  // Calls f(product, begin, end) for the units [begin, end) of the line, product by product, counted in each from 0.
  template <class F>
  void each(int64_t begin, int64_t end, F&& f) const {
    int64_t i = std::upper_bound(first_, first_ + products_ + 1, begin) - first_ - 1;
    for (; begin < end; ++i) {
      const int64_t stop = std::min(end, first_[i + 1]);
      if (begin < stop) f(i, begin - first_[i], stop - first_[i]);
      begin = std::max(begin, stop);
    }
  }

 private:
  static constexpr int64_t kInline = 1024;  // 8 KiB of the stack
  int64_t few_[kInline];
  std::vector<int64_t> many_;
  int64_t* first_ = few_;
  int64_t products_ = 0;
};

// Every product in F32, whatever forms its weights have besides.
void matmul_exact(ThreadPool& pool, std::span<const Product> products);

}  // namespace sonde::kernels
