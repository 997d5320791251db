#include "cli/direct.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/paths.h"
#include "cli/interrupt.h"
#include "cli/output.h"

namespace sonde {

Result<DirectModel> open_direct(const std::string& path, const RunFlags& flags) {
  DirectModel direct;
  SONDE_TRY(auto checkpoint, Checkpoint::open(path));
  direct.checkpoint = std::move(checkpoint);
  const ModelOptions options{.exact = flags.exact_for(direct.checkpoint->file_bytes()),
                             .threads = flags.threads,
                             .progress = loading_progress(),
                             .notice = [](const std::string& line) { notice(line); },
                             .cache = cache_folder()};
  SONDE_TRY(direct.model, Model::load(direct.checkpoint, options));
  direct.pool = ThreadPool::shared(flags.threads);
  const int64_t most = direct.model->config().max_position_embeddings;
  if (flags.context > most && most > 0)
    return Error{.code = Code::kTooLarge,
                 .what = "--context is beyond what the model was made for",
                 .where = path,
                 .expected = fmt::format("at most {} tokens", most),
                 .found = fmt::format("{}", flags.context)};
  direct.context = flags.context > 0 ? flags.context : most;
  return direct;
}

Status check_ids(const DirectModel& direct, std::span<const int32_t> ids) {
  const int64_t vocabulary = direct.model->config().vocab_size;
  for (const int32_t id : ids)
    if (id < 0 || id >= vocabulary)
      return Error{.code = Code::kInvalid,
                   .what = "token id beyond the vocabulary",
                   .where = direct.checkpoint->path(),
                   .expected = fmt::format("below {}", vocabulary),
                   .found = fmt::format("{}", id)};
  const auto count = static_cast<int64_t>(ids.size());
  if (direct.context > 0 && count > direct.context)
    return Error{.code = Code::kTooLarge,
                 .what = "more tokens than the context holds",
                 .where = direct.checkpoint->path(),
                 .expected = fmt::format("at most {}", direct.context),
                 .found = fmt::format("{}", count)};
  return {};
}

StepWatch watched(ProgressLine& line, int64_t before, int64_t amount) {
  return [&line, before, amount](int64_t done, int64_t layers) {
    line.update(before + amount * done / layers);
    return !Interrupt::requested();
  };
}

Result<Pages> Pages::make(const KvLayout& layout, int64_t tokens) {
  const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens, page = layout.page_bytes();
  // In double: the product of a hostile configuration may be beyond 64 bits.
  const double bytes = static_cast<double>(pages) * static_cast<double>(page);
  const int64_t available = memory_available();
  if (bytes > static_cast<double>(available))
    return Error{.code = Code::kTooLarge,
                 .what = fmt::format("the cache of {} tokens does not fit into memory", tokens),
                 .expected = "at most " + bytes_text(static_cast<double>(available)),
                 .found = bytes_text(bytes)};
  Pages made;
  made.bytes_.resize(static_cast<std::size_t>(pages * page));
  for (int64_t p = 0; p < pages; ++p) made.pointers_.push_back(made.bytes_.data() + p * page);
  return made;
}

}  // namespace sonde
