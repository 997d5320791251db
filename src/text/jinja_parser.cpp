#include "text/jinja_parser.h"

#include <fmt/format.h>
#include <algorithm>

namespace sonde::jinja {

bool Parser::take_operator(std::string_view text) {
  if (!is_operator(text)) return false;
  next();
  return true;
}

bool Parser::take_name(std::string_view text) {
  if (!is_name(text)) return false;
  next();
  return true;
}

namespace {

std::string shown(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kEnd:
      return "the end of the template";
    case Token::Kind::kBlockEnd:
      return "the end of the tag";
    case Token::Kind::kOutputEnd:
      return "the end of the tag";
    case Token::Kind::kData:
      return "text";
    default:
      return fmt::format("\"{}\"", token.text);
  }
}

}  // namespace

void Parser::expect_operator(std::string_view text) {
  if (!take_operator(text)) fail(fmt::format("expected \"{}\", found {}", text, shown(now())));
}

void Parser::expect(Token::Kind kind, std::string_view what) {
  if (now().kind == kind) {
    next();
  } else {
    fail(fmt::format("expected {}, found {}", what, shown(now())));
  }
}

std::string Parser::expect_name() {
  if (now().kind == Token::Kind::kName) return next().text;
  fail(fmt::format("expected a name, found {}", shown(now())));
  return {};
}

void Parser::fail(std::string what) {
  if (!error_) error_ = template_error(now().line, std::move(what));
  at_ = tokens_.size() - 1;
}

NodePtr Parser::make(Kind kind) const {
  auto node = std::make_unique<Node>();
  node->kind = kind;
  node->line = now().line;
  return node;
}

NodePtr Parser::done(NodePtr node) {
  const auto count = [&](const NodePtr& kid) {
    if (kid) node->depth = std::max(node->depth, kid->depth + 1);
  };
  for (const Nodes* nodes : {&node->kids, &node->body, &node->other})
    std::for_each(nodes->begin(), nodes->end(), count);
  for (const auto& [name, kid] : node->named) count(kid);
  if (node->depth > kMaxNesting) fail("nested too deeply");
  return node;
}

NodePtr Parser::expression() {
  const Deeper deeper(*this);
  if (failed()) return make(Kind::kConstant);
  NodePtr node = either();
  while (is_name("if") && !failed()) {
    NodePtr choice = make(Kind::kChoice);
    next();
    choice->kids.push_back(std::move(node));
    choice->kids.push_back(either());
    choice->kids.push_back(take_name("else") ? expression() : nullptr);
    node = done(std::move(choice));
  }
  return node;
}

NodePtr Parser::expression_or_tuple() {
  NodePtr first = expression();
  if (!is_operator(",")) return first;
  NodePtr tuple = make(Kind::kTuple);
  tuple->kids.push_back(std::move(first));
  while (take_operator(",")) {
    if (now().kind == Token::Kind::kBlockEnd || now().kind == Token::Kind::kOutputEnd) break;
    tuple->kids.push_back(expression());
  }
  return done(std::move(tuple));
}

NodePtr Parser::either() {
  NodePtr left = both();
  while (is_name("or") && !failed()) {
    NodePtr node = make(Kind::kOr);
    next();
    node->kids.push_back(std::move(left));
    node->kids.push_back(both());
    left = done(std::move(node));
  }
  return left;
}

NodePtr Parser::both() {
  NodePtr left = negation();
  while (is_name("and") && !failed()) {
    NodePtr node = make(Kind::kAnd);
    next();
    node->kids.push_back(std::move(left));
    node->kids.push_back(negation());
    left = done(std::move(node));
  }
  return left;
}

NodePtr Parser::negation() {
  if (!is_name("not")) return comparison();
  const Deeper deeper(*this);
  NodePtr node = make(Kind::kNot);
  next();
  node->kids.push_back(failed() ? make(Kind::kConstant) : negation());
  return done(std::move(node));
}

NodePtr Parser::comparison() {
  NodePtr node = make(Kind::kCompare);
  node->kids.push_back(sum());
  while (!failed()) {
    static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
    const bool symbol = now().kind == Token::Kind::kOperator &&
                        std::find(std::begin(kOperators), std::end(kOperators), now().text) != std::end(kOperators);
    if (symbol) {
      node->names.push_back(next().text);
    } else if (take_name("in")) {
      node->names.push_back("in");
    } else if (is_name("not") && tokens_[at_ + 1].kind == Token::Kind::kName && tokens_[at_ + 1].text == "in") {
      next();
      next();
      node->names.push_back("not in");
    } else {
      break;
    }
    node->kids.push_back(sum());
  }
  if (node->names.empty()) return std::move(node->kids[0]);
  return done(std::move(node));
}

NodePtr Parser::binary(NodePtr left, std::string name, NodePtr right) {
  NodePtr node = make(Kind::kBinary);
  node->line = left->line;
  node->name = std::move(name);
  node->kids.push_back(std::move(left));
  node->kids.push_back(std::move(right));
  return done(std::move(node));
}

NodePtr Parser::sum() {
  NodePtr left = joined();
  while ((is_operator("+") || is_operator("-")) && !failed()) {
    std::string name = next().text;
    left = binary(std::move(left), std::move(name), joined());
  }
  return left;
}

NodePtr Parser::joined() {
  NodePtr left = product();
  while (is_operator("~") && !failed()) {
    next();
    left = binary(std::move(left), "~", product());
  }
  return left;
}

NodePtr Parser::product() {
  NodePtr left = power();
  while ((is_operator("*") || is_operator("/") || is_operator("//") || is_operator("%")) && !failed()) {
    std::string name = next().text;
    left = binary(std::move(left), std::move(name), power());
  }
  return left;
}

NodePtr Parser::power() {
  NodePtr left = unary(true);
  while (is_operator("**") && !failed()) {
    next();
    left = binary(std::move(left), "**", unary(true));
  }
  return left;
}

NodePtr Parser::unary(bool with_filters) {
  NodePtr node;
  if (is_operator("-") || is_operator("+")) {
    const Deeper deeper(*this);
    node = make(is_operator("-") ? Kind::kNegative : Kind::kPositive);
    next();
    node->kids.push_back(failed() ? make(Kind::kConstant) : unary(false));
    node = done(std::move(node));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filters ? filters(std::move(node)) : std::move(node);
}

NodePtr Parser::primary() {
  NodePtr node = make(Kind::kConstant);
  switch (now().kind) {
    case Token::Kind::kText: {
      std::string text;
      while (now().kind == Token::Kind::kText) text += next().text;
      node->value = Value::own(std::move(text));
      return node;
    }
    case Token::Kind::kInteger:
      node->value = Value::integer(next().integer);
      return node;
    case Token::Kind::kReal:
      node->value = Value::real(next().real);
      return node;
    case Token::Kind::kName: {
      const std::string& name = next().text;
      if (name == "true" || name == "True") {
        node->value = Value::boolean(true);
      } else if (name == "false" || name == "False") {
        node->value = Value::boolean(false);
      } else if (name == "none" || name == "None") {
        node->value = Value::none();
      } else {
        node->kind = Kind::kName;
        node->name = name;
      }
      return node;
    }
    default:
      break;
  }
  if (take_operator("[")) return sequence(Kind::kList, "]");
  if (take_operator("(")) return sequence(Kind::kTuple, ")");
  if (take_operator("{")) return dictionary();
  fail(fmt::format("expected a value, found {}", shown(now())));
  return node;
}

// The rest of [a, b] or (a, b); one value in parentheses without a comma is that value.
NodePtr Parser::sequence(Kind kind, std::string_view close) {
  NodePtr node = make(kind);
  bool comma = false;
  while (!failed() && !is_operator(close)) {
    node->kids.push_back(expression());
    if (!take_operator(",")) break;
    comma = true;
  }
  expect_operator(close);
  if (kind == Kind::kTuple && node->kids.size() == 1 && !comma) return std::move(node->kids[0]);
  return done(std::move(node));
}

NodePtr Parser::dictionary() {
  NodePtr node = make(Kind::kDict);
  while (!failed() && !is_operator("}")) {
    node->kids.push_back(expression());
    expect_operator(":");
    node->kids.push_back(expression());
    if (!take_operator(",")) break;
  }
  expect_operator("}");
  return done(std::move(node));
}

NodePtr Parser::postfix(NodePtr node) {
  while (!failed()) {
    if (is_operator(".")) {
      next();
      NodePtr outer = make(now().kind == Token::Kind::kInteger ? Kind::kItem : Kind::kAttribute);
      outer->kids.push_back(std::move(node));
      if (outer->kind == Kind::kItem) {
        NodePtr index = make(Kind::kConstant);
        index->value = Value::integer(next().integer);
        outer->kids.push_back(std::move(index));
      } else {
        outer->name = expect_name();
      }
      node = done(std::move(outer));
    } else if (is_operator("[")) {
      node = subscript(std::move(node));
    } else if (is_operator("(")) {
      NodePtr call = make(Kind::kCall);
      call->kids.push_back(std::move(node));
      arguments(*call);
      node = done(std::move(call));
    } else {
      break;
    }
  }
  return node;
}

NodePtr Parser::subscript(NodePtr node) {
  NodePtr outer = make(Kind::kItem);
  next();
  outer->kids.push_back(std::move(node));
  NodePtr part = is_operator(":") ? nullptr : expression();
  if (is_operator(":")) {
    outer->kind = Kind::kSlice;
    outer->kids.push_back(std::move(part));
    for (int i = 0; i < 2; ++i) {
      const bool there = take_operator(":");
      outer->kids.push_back(there && !is_operator(":") && !is_operator("]") ? expression() : nullptr);
    }
  } else {
    outer->kids.push_back(std::move(part));
  }
  expect_operator("]");
  return done(std::move(outer));
}

void Parser::arguments(Node& call) {
  expect_operator("(");
  while (!failed() && !is_operator(")")) {
    if (is_operator("*") || is_operator("**")) return fail("unpacked arguments are not supported");
    const bool keyword = now().kind == Token::Kind::kName && tokens_[at_ + 1].kind == Token::Kind::kOperator &&
                         tokens_[at_ + 1].text == "=";
    if (keyword) {
      std::string name = next().text;
      next();
      call.named.emplace_back(std::move(name), expression());
    } else {
      if (!call.named.empty()) return fail("a positional argument after a named one");
      call.kids.push_back(expression());
    }
    if (!take_operator(",")) break;
  }
  expect_operator(")");
}

NodePtr Parser::filters(NodePtr node) {
  while (!failed()) {
    if (is_operator("|")) {
      node = apply_filter(std::move(node));
    } else if (is_name("is")) {
      node = test(std::move(node));
    } else if (is_operator("(")) {
      node = postfix(std::move(node));
    } else {
      break;
    }
  }
  return node;
}

NodePtr Parser::apply_filter(NodePtr node) {
  NodePtr outer = make(Kind::kApply);
  next();
  outer->name = expect_name();
  if (!failed() && !has_filter(outer->name)) fail(fmt::format("no filter named \"{}\"", outer->name));
  outer->kids.push_back(std::move(node));
  if (is_operator("(")) arguments(*outer);
  return done(std::move(outer));
}

NodePtr Parser::test(NodePtr node) {
  NodePtr outer = make(Kind::kTest);
  next();
  const bool negated = take_name("not");
  outer->name = expect_name();
  if (!failed() && !has_test(outer->name)) fail(fmt::format("no test named \"{}\"", outer->name));
  outer->kids.push_back(std::move(node));
  const Token& token = now();
  const bool word = token.kind == Token::Kind::kName && token.text != "else" && token.text != "or" &&
                    token.text != "and" && token.text != "if" && token.text != "is" && token.text != "in" &&
                    token.text != "not";
  if (is_operator("(")) {
    arguments(*outer);
  } else if (word || token.kind == Token::Kind::kText || token.kind == Token::Kind::kInteger ||
             token.kind == Token::Kind::kReal || is_operator("[") || is_operator("{")) {
    outer->kids.push_back(postfix(primary()));
  }
  outer = done(std::move(outer));
  if (!negated) return outer;
  NodePtr negative = make(Kind::kNot);
  negative->kids.push_back(std::move(outer));
  return done(std::move(negative));
}

}  // namespace sonde::jinja
