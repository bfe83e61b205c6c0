// Softmax cross-entropy with label smoothing, mean over the rows, and its gradient: 32 lanes to a row.
//
// With the target (1 - s) at the label plus s / classes everywhere, the loss of a row is
// log sum exp(z) - (1 - s) z_label - s mean(z).
#include "kernels.h"
#include "team.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

template <class Stored>
struct RowLoss {
  flatmin_cross_entropy entropy;
  double* losses;  // of each row, and behind them whether it is correct

  template <class Team>
  FLATMIN_BOTH void run(const Team& team, int64_t row) const {
    using T = Real<Stored>;
    const int64_t classes = entropy.classes;
    const Stored* logits = static_cast<const Stored*>(entropy.logits) + row * classes;
    const auto logit = [=](int64_t index) -> T { return load(logits[index]); };
    const T start = -static_cast<T>(HUGE_VAL);
    const T largest = team.reduce(classes, start, [](T a, T b) { return std::fmax(a, b); }, logit);
    const double exponentials = team_sum(team, classes, [=](int64_t index) {
      return static_cast<double>(std::exp(logit(index) - largest));
    });
    const double sum = team_sum(team, classes, [=](int64_t index) { return static_cast<double>(logit(index)); });
    // Ties go to the first, as in torch's argmax.
    const auto lower = [](int64_t a, int64_t b) { return a < b ? a : b; };
    const int64_t best =
        team.reduce(classes, classes, lower, [=](int64_t index) { return logit(index) == largest ? index : classes; });
    if (!team.lead()) return;
    const int64_t label = entropy.labels[row];
    const bool known = label >= 0 && label < classes;
    const double log_sum = static_cast<double>(largest) + std::log(exponentials);
    const double own = known ? static_cast<double>(logit(label)) : NAN;
    static_cast<T*>(entropy.log_sum)[row] = static_cast<T>(log_sum);
    losses[row] = log_sum - (1 - entropy.smoothing) * own - entropy.smoothing * (sum / static_cast<double>(classes));
    losses[entropy.rows + row] = known && best == label ? 1 : 0;
  }
};

template <class T>
struct MeanLoss {
  flatmin_cross_entropy entropy;
  const double* losses;

  struct Shared {
    int items;
  };
  using Sum = Sums<2>;

  FLATMIN_BOTH void prepare(int64_t, Shared& shared) const { shared.items = static_cast<int>(entropy.rows); }
  FLATMIN_BOTH Sum item(const Shared&, int row) const { return {{losses[row], losses[entropy.rows + row]}}; }

  FLATMIN_BOTH void finish(const Sum& sum) const {
    *static_cast<T*>(entropy.loss) = static_cast<T>(sum.at[0] / static_cast<double>(entropy.rows));
    if (entropy.correct != nullptr) *entropy.correct = static_cast<int64_t>(sum.at[1]);
  }
};

// (softmax - target) dloss / rows.
template <class Stored>
struct RowGradient {
  using T = Real<Stored>;
  flatmin_cross_entropy entropy;
  const T* dloss;
  Stored* dlogits;

  template <class Team>
  FLATMIN_BOTH void run(const Team& team, int64_t row) const {
    const int64_t classes = entropy.classes, start = row * classes;
    const Stored* logits = static_cast<const Stored*>(entropy.logits) + start;
    const T log_sum = static_cast<const T*>(entropy.log_sum)[row];
    const T factor = *dloss / static_cast<T>(entropy.rows);
    const T everywhere = static_cast<T>(entropy.smoothing / static_cast<double>(classes));
    const T at_label = static_cast<T>(1 - entropy.smoothing);
    const int64_t label = entropy.labels[row];
    Stored* out = dlogits + start;
    team.each(classes, [=](int64_t index) {
      const T target = everywhere + (index == label ? at_label : T(0));
      out[index] = store<Stored>((std::exp(load(logits[index]) - log_sum) - target) * factor);
    });
  }
};

}  // namespace

int64_t cross_entropy_scratch(int64_t rows) { return 2 * rows + 2; }

int cross_entropy(void* stream, const flatmin_cross_entropy* entropy, const flatmin_scratch* scratch) {
  if (entropy->rows < 1 || entropy->classes < 1) return fail("cross-entropy needs at least one row and one class");
  return with_stored(entropy->number, [&](auto stored) {
    using Stored = decltype(stored);
    // The sum's own partial comes first.
    double* losses = scratch->partials + 2;
    if (teams(stream, entropy->rows, RowLoss<Stored>{*entropy, losses}) != 0) return 1;
    return sum(stream, 1, *scratch, MeanLoss<Real<Stored>>{*entropy, losses});
  });
}

int cross_entropy_backward(void* stream, const flatmin_cross_entropy* entropy, const void* dloss, void* dlogits) {
  return with_stored(entropy->number, [&](auto stored) {
    using Stored = decltype(stored);
    const auto* factor = static_cast<const Real<Stored>*>(dloss);
    return teams(stream, entropy->rows, RowGradient<Stored>{*entropy, factor, static_cast<Stored*>(dlogits)});
  });
}

}  // namespace flatmin::FLATMIN_SIDE
