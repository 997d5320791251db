// A parsed template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sonde/result.h"
#include "text/jinja_value.h"

namespace sonde::jinja {

struct Node;
using NodePtr = std::unique_ptr<Node>;
using Nodes = std::vector<NodePtr>;

struct Node {
  enum class Kind {
    // Statements. kids: expressions, body and other: statements.
    kData,      // value
    kOutput,    // kids[0]
    kIf,        // kids[0], body, other (an elif is an if inside other)
    kFor,       // names: targets; kids[0]: what; kids[1]: condition or null; body, other
    kSet,       // names: targets (or kids[1] is an attribute of a namespace); kids[0]: value
    kSetBlock,  // names[0], body; kids[0]: filters over the body or null
    kMacro,     // name, names: parameters, kids: defaults of the last ones, body
    kWith,      // names, kids, body
    kFilter,    // kids[0]: filters over the body, body
    kScope,     // body
    kBreak,
    kContinue,
    // Expressions.
    kConstant,  // value
    kBodyText,  // the captured body, inside kids[0] of kSetBlock and kFilter
    kName,      // name
    kList,
    kTuple,
    kDict,       // kids: key, value, key, value ...
    kAttribute,  // kids[0].name
    kItem,       // kids[0][kids[1]]
    kSlice,      // kids[0][kids[1]:kids[2]:kids[3]], absent ones null
    kCall,       // kids[0](kids[1]..., named...)
    kApply,      // kids[0] | name(kids[1]..., named...)
    kTest,       // kids[0] is name(kids[1]...)
    kNot,
    kNegative,
    kPositive,
    kAnd,
    kOr,
    kBinary,   // name: operator
    kCompare,  // kids[0] names[0] kids[1] names[1] kids[2] ...
    kChoice,   // kids[0] if kids[1] else kids[2] or null
  };
  Kind kind;
  int line;
  int depth = 1;
  std::string name;
  std::vector<std::string> names;
  Value value;
  Nodes kids;
  std::vector<std::pair<std::string, NodePtr>> named;
  Nodes body, other;
};

inline constexpr int kMaxNesting = 200;  // of expressions and statements in a template

Result<Nodes> parse(std::string_view source);
// Names that the interpreter knows (jinja_filters.cpp, jinja_tests.cpp); others are refused when a template is read.
bool has_filter(std::string_view name);
bool has_test(std::string_view name);

}  // namespace sonde::jinja
