#include "architecture/rules.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>

namespace sonde::house {

namespace fs = std::filesystem;

namespace {

// The folders of src in the order of the map: an include may point from a folder to itself and to those before it.
const std::vector<std::string> kFolders = {"base",     "tensor", "kernels", "cluster", "files",    "text",
                                           "model",    "sample", "engine",  "images",  "quantize", "verify",
                                           "autograd", "train",  "server",  "cli"};

// Files that may be longer than 500 lines, and why.
const std::map<std::string, std::string> kLongFiles = {};

std::string read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

bool is_source(const std::string& file) {
  static const std::set<std::string> kEndings = {".cpp", ".h", ".py", ".sh", ".cmake", ".ts", ".js"};
  return kEndings.count(fs::path(file).extension().string()) > 0;
}

bool starts_with(const std::string& text, const std::string& beginning) { return text.rfind(beginning, 0) == 0; }

int rank(const std::string& folder) {
  const auto found = std::find(kFolders.begin(), kFolders.end(), folder);
  return found == kFolders.end() ? -1 : int(found - kFolders.begin());
}

// Calls f(file, line number, line) for every line of the files that `wanted` takes.
void each_line(const fs::path& tree, const std::function<bool(const std::string&)>& wanted,
               const std::function<void(const std::string&, int, const std::string&)>& f) {
  for (const std::string& file : files(tree)) {
    if (!wanted(file)) continue;
    std::istringstream in(read(tree / file));
    std::string line;
    for (int number = 1; std::getline(in, line); ++number) f(file, number, line);
  }
}

std::string at(const std::string& file, int line) { return file + ":" + std::to_string(line) + ": "; }

// The line without a comment that runs to its end (good enough where `//` stands in no string).
std::string code_of(const std::string& line) {
  const auto comment = line.find("//");
  return comment == std::string::npos ? line : line.substr(0, comment);
}

}  // namespace

std::vector<std::string> files(const fs::path& tree) {
  std::vector<std::string> found;
  for (auto entry = fs::recursive_directory_iterator(tree); entry != fs::recursive_directory_iterator(); ++entry) {
    const std::string name = entry->path().filename().string();
    if (entry->is_directory() &&
        (name == "build" || name == ".git" || name == ".cache" || name == "node_modules" || name == "__pycache__")) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file()) {
      found.push_back(fs::relative(entry->path(), tree).generic_string());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

Findings includes_go_one_way(const fs::path& tree) {
  Findings findings;
  static const std::regex kInclude(R"re(^\s*#\s*include\s+["<]([^">]+)[">])re");
  const auto wanted = [](const std::string& file) {
    return (starts_with(file, "src/") || starts_with(file, "include/sonde/")) && is_source(file);
  };
  each_line(tree, wanted, [&](const std::string& file, int number, const std::string& line) {
    std::smatch match;
    if (!std::regex_search(line, match, kInclude)) return;
    const std::string included = match[1];
    const std::string target = included.substr(0, included.find('/'));
    if (included.find("..") != std::string::npos) {
      findings.push_back(at(file, number) + "includes go by folder, not by \"..\": " + included);
      return;
    }
    if (starts_with(file, "include/sonde/")) {
      if (rank(target) >= 0 && included.find('/') != std::string::npos)
        findings.push_back(at(file, number) + "the public API includes " + included);
      return;
    }
    const std::string folder = file.substr(4, file.find('/', 4) - 4);
    if (rank(folder) < 0) {
      findings.push_back(at(file, number) + "src/" + folder + " is not on the map");
      return;
    }
    const bool ours = rank(target) >= 0 && included.find('/') != std::string::npos && fs::exists(tree / "src" / target);
    if (!ours || folder == "server" || folder == "cli") {
      if (ours && folder == "server" && target == "cli")
        findings.push_back(at(file, number) + "server includes " + included);
      return;
    }
    if (rank(target) > rank(folder)) findings.push_back(at(file, number) + folder + " may not include " + included);
  });
  return findings;
}

Findings files_are_short(const fs::path& tree) {
  Findings findings;
  for (const std::string& file : files(tree)) {
    if (!is_source(file) || kLongFiles.count(file)) continue;
    const std::string text = read(tree / file);
    const auto lines = std::count(text.begin(), text.end(), '\n');
    if (lines > 500)
      findings.push_back(file + ": " + std::to_string(lines) + " lines, 500 are allowed without a reason");
  }
  for (const auto& [file, reason] : kLongFiles)
    if (!fs::exists(tree / file)) findings.push_back(file + ": excused from being short, but not there");
  return findings;
}

Findings quant_types_have_one_home(const fs::path& tree) {
  Findings findings;
  // Q4_0, IQ2_XXS, TQ1_0, MXFP4 and their spellings in lower case or run together in identifiers (unpack_q4_k).
  static const std::regex kName(R"((^|[^A-Za-z0-9])(I?Q[1-8]_([0-9K]|XXS|XS|S|M|NL)|TQ[12]_0|MXFP4)([^A-Za-z0-9]|$))",
                                std::regex::icase);
  const auto wanted = [](const std::string& file) {
    return starts_with(file, "src/") && is_source(file) && !starts_with(file, "src/tensor/quant/") &&
           // The mixes of types in published files are llama.cpp's rule, and that rule is made of names; so is the table
           // of general.file_type, which says what mix a GGUF file claims to be.
           !starts_with(file, "src/cli/synth") && file != "src/files/gguf_config.cpp";
  };
  each_line(tree, wanted, [&](const std::string& file, int number, const std::string& line) {
    const std::string code = code_of(line);
    std::smatch match;
    if (code.find(".gguf") != std::string::npos) return;  // the name of a file in an example
    if (std::regex_search(code, match, kName))
      findings.push_back(at(file, number) + "names the quant type " + match[2].str());
  });
  return findings;
}

Findings families_have_one_home(const fs::path& tree) {
  Findings findings;
  static const std::regex kName(
      R"re("(deepseek_?v?[23]|deepseek2|qwen[23]|llama|(Deepseek|Qwen|Llama)\w*ForCausalLM)")re");
  const auto wanted = [](const std::string& file) {
    return starts_with(file, "src/") && is_source(file) && !starts_with(file, "src/model/families/") &&
           // Vocabularies and dialects bear published names, some of them the same.
           !starts_with(file, "src/text/") &&
           // The names of tensors and keys in GGUF and in Hugging Face folders.
           !starts_with(file, "src/files/") &&
           // The shapes that can be made up are shapes of published models.
           !starts_with(file, "src/cli/synth");
  };
  each_line(tree, wanted, [&](const std::string& file, int number, const std::string& line) {
    std::smatch match;
    const std::string code = code_of(line);
    if (std::regex_search(code, match, kName))
      findings.push_back(at(file, number) + "names the family " + match[0].str());
  });
  return findings;
}

Findings words_are_the_products_own(const fs::path& tree) {
  Findings findings;
  // Put together from pieces, so that this file does not hold them.
  const std::regex path(std::string(R"((^|[^A-Za-z0-9_.]))") + "/(wo" + "rk|fa" + "rm)/|\\.\\./\\.lib" + "rary");
  const std::regex words(std::string("\\b(cla") + "ude|anthro" + "pic\\.com|A" + "I (assistant|agent|generated))\\b",
                         std::regex::icase);
  const auto wanted = [](const std::string& file) {
    const std::string ending = fs::path(file).extension().string();
    // Goldens, corpora and dialects hold what published models and files say.
    return !starts_with(file, "src/text/dialects/") && !starts_with(file, "tests/golden/") && !starts_with(file, "tests/fuzz/corpus/") &&
           !starts_with(file, "models/") && ending != ".safetensors" && ending != ".gguf" && ending != ".png";
  };
  each_line(tree, wanted, [&](const std::string& file, int number, const std::string& line) {
    if (std::regex_search(line, path))
      findings.push_back(at(file, number) + "a path of one machine: " + line.substr(0, 100));
    if (std::regex_search(line, words))
      findings.push_back(at(file, number) + "not about the product: " + line.substr(0, 100));
  });
  return findings;
}

Findings tests_can_fail(const fs::path& tree) {
  Findings findings;
  static const std::regex kAssertion(R"((EXPECT|ASSERT)_|\bFAIL\(\)|ADD_FAILURE)");
  for (const std::string& file : files(tree)) {
    if (!starts_with(file, "tests/") || file.size() < 9 || file.compare(file.size() - 9, 9, "_test.cpp") != 0) continue;
    if (!std::regex_search(read(tree / file), kAssertion)) findings.push_back(file + ": asserts nothing");
  }
  return findings;
}

Findings parsers_are_fuzzed(const fs::path& tree) {
  Findings findings;
  // A parser of foreign bytes, known by a file that is there when it is, and the target that must come with it.
  static const std::vector<std::pair<std::string, std::string>> kParsers = {
      {"src/files/gguf", "gguf"},          {"src/files/safetensors", "safetensors"}, {"src/text/jinja", "jinja"}, {"src/text/output_parser", "parser"},
      {"src/text/tokenizer", "tokenizer"}, {"src/model/config.cpp", "config"},       {"src/server/chat_request", "chat_request"},
      {"src/files/cache_file", "cache_file"}};
  const std::vector<std::string> all = files(tree);
  for (const auto& [parser, target] : kParsers) {
    const bool there = std::any_of(all.begin(), all.end(), [p = parser](const std::string& file) {
      return starts_with(file, p) && fs::path(file).extension() == ".cpp";
    });
    if (there && !fs::exists(tree / "tests/fuzz" / (target + "_fuzz.cpp")))
      findings.push_back(parser + "*: has no tests/fuzz/" + target + "_fuzz.cpp");
  }
  for (const std::string& file : all) {
    static const std::regex kTarget(R"(^tests/fuzz/(\w+)_fuzz\.cpp$)");
    std::smatch match;
    if (!std::regex_match(file, match, kTarget)) continue;
    const std::string corpus = "tests/fuzz/corpus/" + match[1].str() + "/";
    if (std::none_of(all.begin(), all.end(), [&](const std::string& other) { return starts_with(other, corpus); }))
      findings.push_back(file + ": has no corpus in " + corpus);
  }
  return findings;
}

Findings maps_are_true(const fs::path& tree) {
  Findings findings;
  std::vector<std::string> there;
  for (const std::string& folder : kFolders) {
    for (const std::string& file : files(tree / "src"))
      if (starts_with(file, folder + "/")) {
        there.push_back(folder);
        break;
      }
  }
  for (const auto& entry : fs::directory_iterator(tree / "src"))
    if (entry.is_directory() && rank(entry.path().filename().string()) < 0)
      findings.push_back("src/" + entry.path().filename().string() + ": not on the map");
  static const std::regex kLine(R"(^src/(\w+)\s+\S.*)");
  for (const char* page : {"README.md", "README.zh.md", "ARCHITECTURE.md"}) {
    std::vector<std::string> named;
    std::istringstream in(read(tree / page));
    for (std::string line; std::getline(in, line);) {
      std::smatch match;
      // A folder still to come says so.
      if (std::regex_match(line, match, kLine) && line.find("(later)") == std::string::npos &&
          line.find("（以后）") == std::string::npos)
        named.push_back(match[1]);
    }
    const auto text = [](const std::vector<std::string>& names) {
      std::string all;
      for (const std::string& name : names) all += (all.empty() ? "" : " ") + name;
      return all;
    };
    if (named != there)
      findings.push_back(std::string(page) + ": the map says [" + text(named) + "], src holds [" + text(there) + "]");
  }
  return findings;
}

}  // namespace sonde::house
