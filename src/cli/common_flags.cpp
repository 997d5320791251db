#include "cli/common_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/paths.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "engine/draft_costs.h"

namespace sonde {
namespace {

// A number that fills the whole of `text`.
template <class T>
std::optional<T> number(std::string_view text) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

// As EngineOptions wants it.
std::optional<int> draft_option(std::string_view text) {
  if (text == "auto") return -1;
  if (text == "off") return 0;
  const auto count = number<int>(text);
  return count && *count >= 0 && *count <= kMostDrafts ? count : std::nullopt;
}

Error no_ids(const std::string& what, const std::string& where, std::string found) {
  return {.code = Code::kInvalid,
          .what = what,
          .where = where,
          .expected = "numbers from 0 on, as in 1,2,3",
          .found = std::move(found)};
}

// Ids between commas, spaces and brackets; between two commas there is one at least.
Result<std::vector<int32_t>> parse_ids(std::string_view text, const std::string& where) {
  std::vector<int32_t> ids;
  constexpr std::string_view kBetween = ", \t\r\n[]";
  bool filled = false, commas = false;  // since the last comma; in all
  const auto empty_place = [&] {
    const std::string after = ids.empty() ? "at its beginning" : fmt::format("after {}", ids.back());
    return no_ids("--ids has an empty place", where, fmt::format("nothing in place {}, {}", ids.size() + 1, after));
  };
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == ',') {
      if (!filled) return empty_place();
      filled = false, commas = true, ++at;
      continue;
    }
    const std::size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    if (end == at) {
      ++at;
      continue;
    }
    const std::string_view word = text.substr(at, end - at);
    const auto id = number<int32_t>(word);
    if (!id || *id < 0)
      return no_ids("--ids holds something that is no token id", where, fmt::format("\"{}\"", word.substr(0, 40)));
    ids.push_back(*id);
    filled = true, at = end;
  }
  if (commas && !filled) return empty_place();
  return ids;
}

}  // namespace

Error usage_mistake(const std::string& message) {
  return {.code = Code::kInvalid, .what = message, .where = std::string(kCommandLine)};
}

void ModelFlags::declare(Args& args) {
  args.positional("MODEL", positional, "a folder, a file, or the first of several files");
  args.option("-m,--model", named, "the same as MODEL");
}

Result<std::string> ModelFlags::path() const {
  if (!positional.empty() && !named.empty()) return usage_mistake("MODEL is given twice, once with -m");
  if (positional.empty() && named.empty()) return usage_mistake("MODEL is missing: a folder or a file");
  return positional.empty() ? named : positional;
}

Result<std::string> ModelFlags::path_or_embedded() const {
  if (positional.empty() && named.empty()) return embedded_default();
  return path();
}

Result<std::string> embedded_default() {
  std::string path = embedded_model();
  if (path.empty())
    return Error{.code = Code::kNotFound,
                 .what = "no MODEL given, and the embedded default is not beside the program",
                 .hint = "name a folder or a file"};
  notice("no MODEL given: using the embedded default, " + path);
  return path;
}

void RunFlags::declare(Args& args) {
  args.group("Running the model");
  args.option("-t,--threads", threads, "compute threads (default: as many as the process may use)");
  args.option("-c,--context", context,
              "tokens a sequence may hold (default: the model's own, as far as memory allows)");
  args.option("--dialect", dialect, "chat dialect, where the model's own is unknown or another is wanted");
  args.flag("--exact", exact,
            "the exact path: F32 activations on the weights as stored, an F32 cache (the default below 256 MiB)");
  args.flag("--fast", fast, "the fast path: bytes on packed weights, a BF16 cache (the default from 256 MiB on)");
  args.flag("--reproducible", reproducible, "one form of attention and products throughout: the same bits however the work is cut");
  args.option(
      "--draft", draft,
      "guess so many tokens ahead and check them together: N, auto (as many as pay) or off; the answer stays the "
      "same");
  args.group("Choosing tokens");
  args.option("--temperature", temperature, "0: greedy (default: what the model's makers recommend)");
  args.option("--top-p", top_p, "smallest set of tokens whose probabilities reach this, in (0, 1]");
  args.option("--top-k", top_k, "only the k likeliest tokens; 0: all");
  args.option("--min-p", min_p, "drop tokens below this times the likeliest one's probability, in [0, 1)");
  args.option("--repetition-penalty", repetition_penalty, "above 1: tokens seen before become less likely");
  args.option("--presence-penalty", presence_penalty, "subtracted once from tokens of the answer so far, in [-2, 2]");
  args.option("--frequency-penalty", frequency_penalty, "subtracted for each occurrence in the answer, in [-2, 2]");
  args.repeated("--logit-bias", logit_bias, "ID:VALUE, added to that token's logit; may be given several times");
  args.option("--seed", seed, "makes sampling repeatable (default: a fresh one each time)");
  args.repeated("--stop", stop, "a text that ends the answer; may be given several times");
  args.group("Options");
}

Status RunFlags::check() const {
  if (threads < 0 || threads > 4096)
    return usage_mistake(fmt::format("--threads {} is out of range 1 to 4096", threads));
  if (exact && fast) return usage_mistake("--exact and --fast exclude each other");
  if (context < 0) return usage_mistake(fmt::format("--context {} is negative", context));
  if (!draft_option(draft))
    return usage_mistake(fmt::format("--draft {} is none of auto, off and 1 to {}", draft, kMostDrafts));
  const auto sampled = sampling({});
  if (!sampled.ok()) return sampled.error();
  return {};
}

EngineOptions RunFlags::engine_options() const {
  EngineOptions options;
  options.threads = threads;
  options.context = context;
  options.reproducible = reproducible;
  options.dialect = dialect;
  options.draft = draft_option(draft).value_or(0);
  options.exact = exact;
  options.fast_from = fast ? 0 : kFastFrom;
  return options;
}

Result<SamplingOptions> RunFlags::sampling(SamplingOptions defaults) const {
  SamplingOptions o = std::move(defaults);
  Status status;
  // `good` also refuses NaN.
  const auto take = [&](auto& to, const auto& from, const char* flag, const char* range, auto good) {
    if (!from) return;
    to = *from;
    if (!good(*from) && status.ok())
      status = usage_mistake(fmt::format("{} {} is out of range {}", flag, *from, range));
  };
  take(o.temperature, temperature, "--temperature", "0 and above", [](double v) { return v >= 0 && v <= 1e6; });
  take(o.top_p, top_p, "--top-p", "(0, 1]", [](double v) { return v > 0 && v <= 1; });
  take(o.top_k, top_k, "--top-k", "0 and above", [](int v) { return v >= 0; });
  take(o.min_p, min_p, "--min-p", "[0, 1)", [](double v) { return v >= 0 && v < 1; });
  take(o.repetition_penalty, repetition_penalty, "--repetition-penalty", "above 0",
       [](double v) { return v > 0 && v <= 1e6; });
  take(o.presence_penalty, presence_penalty, "--presence-penalty", "[-2, 2]",
       [](double v) { return v >= -2 && v <= 2; });
  take(o.frequency_penalty, frequency_penalty, "--frequency-penalty", "[-2, 2]",
       [](double v) { return v >= -2 && v <= 2; });
  SONDE_CHECK(status);
  if (seed) o.seed = seed;
  for (const std::string& text : logit_bias) {
    const std::size_t colon = text.find(':');
    const auto id = number<int32_t>(std::string_view(text).substr(0, colon));
    const double value =
        number<double>(colon == std::string::npos ? "" : std::string_view(text).substr(colon + 1)).value_or(NAN);
    if (!id || *id < 0 || !(std::abs(value) <= 1e6))
      return usage_mistake("--logit-bias \"" + text + "\" is not ID:VALUE, as in 128799:-2.5");
    o.logit_bias[*id] = value;
  }
  return o;
}

void declare_json(Args& args, bool& json) { args.flag("--json", json, "results and errors as JSON"); }

Result<std::unique_ptr<Engine>> open_engine(const std::string& path, EngineOptions options) {
  if (!options.notice) options.notice = [](const std::string& line) { notice(line); };
  if (!options.progress) options.progress = loading_progress();
  if (options.cache.empty()) options.cache = cache_folder();
  return Engine::open(path, std::move(options));
}

Result<std::string> read_input(const std::string& path, int64_t limit) {
  const bool standard = path == "-";
  std::FILE* file = standard ? stdin : std::fopen(path.c_str(), "rb");
  const auto failure = [&](const char* what) {
    return Error{.code = errno == ENOENT ? Code::kNotFound : Code::kIo,
                 .what = what,
                 .where = path,
                 .found = std::strerror(errno)};
  };
  if (!file) return failure("cannot be opened");
  std::string text;
  char buffer[1 << 16];
  std::size_t got = 0;
  errno = 0;
  while ((got = std::fread(buffer, 1, sizeof buffer, file)) > 0) {
    text.append(buffer, got);
    if (static_cast<int64_t>(text.size()) > limit) break;
  }
  const bool bad = std::ferror(file) != 0;
  const Error error = failure("cannot be read");
  if (!standard) std::fclose(file);
  if (bad) return error;
  if (static_cast<int64_t>(text.size()) > limit)
    return Error{
        .code = Code::kTooLarge, .what = "too long", .where = path, .expected = fmt::format("at most {} bytes", limit)};
  return text;
}

Result<std::vector<int32_t>> read_ids(const std::string& text, bool or_none) {
  std::string list = text, where(kCommandLine);
  if (text == "-" || (!text.empty() && text.front() == '@')) {
    const std::string path = text == "-" ? text : text.substr(1);
    SONDE_TRY(list, read_input(path));
    where = path == "-" ? "standard input" : path;
  }
  if (list.starts_with('{')) {  // a line of `sonde tokenize --json`
    const auto line = nlohmann::json::parse(list, nullptr, false);
    if (line.is_object() && line.contains("ids")) list = line["ids"].dump();
  }
  SONDE_TRY(std::vector<int32_t> ids, parse_ids(list, where));
  if (ids.empty() && !or_none) return no_ids("--ids holds no token ids", where, "none");
  return ids;
}

}  // namespace sonde
