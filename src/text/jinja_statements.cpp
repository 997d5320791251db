// Statements of a template.
#include <fmt/format.h>
#include <algorithm>

#include "text/jinja_parser.h"

namespace sonde::jinja {

using TokenKind = Token::Kind;

Result<Nodes> Parser::run() {
  Nodes nodes = statements({});
  if (!failed() && now().kind != TokenKind::kEnd) fail("unexpected tag");
  if (failed()) return std::move(*error_);
  return nodes;
}

Result<Nodes> parse(std::string_view source) {
  SONDE_TRY(std::vector<Token> tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

// Up to a tag that begins with one of `ends` (its name is consumed, its closing is not), or the end of the template.
Nodes Parser::statements(std::initializer_list<std::string_view> ends) {
  Nodes nodes;
  const Deeper deeper(*this);
  while (!failed() && now().kind != TokenKind::kEnd) {
    if (now().kind == TokenKind::kData) {
      NodePtr node = make(Node::Kind::kData);
      node->value = Value::own(next().text);
      nodes.push_back(std::move(node));
    } else if (now().kind == TokenKind::kOutputBegin) {
      next();
      NodePtr node = make(Node::Kind::kOutput);
      node->kids.push_back(expression_or_tuple());
      expect(TokenKind::kOutputEnd, "\"}}\"");
      nodes.push_back(done(std::move(node)));
    } else {
      expect(TokenKind::kBlockBegin, "a tag");
      if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return is_name(end); })) return nodes;
      nodes.push_back(statement());
    }
  }
  if (!failed() && ends.size() > 0) fail(fmt::format("\"{}\" is missing", *(ends.end() - 1)));
  return nodes;
}

void Parser::end_block(std::string_view name) {
  if (!take_name(name)) fail(fmt::format("expected \"{}\"", name));
  expect(TokenKind::kBlockEnd, "\"%}\"");
}

NodePtr Parser::statement() {
  if (take_name("if")) return if_statement();
  if (take_name("for")) return for_statement();
  if (take_name("set")) return set_statement();
  if (take_name("macro")) return macro_statement();
  if (take_name("with")) return with_statement();
  if (take_name("filter")) return filter_statement();
  if (take_name("generation")) return generation_statement();
  if (is_name("break") || is_name("continue")) {
    NodePtr node = make(is_name("break") ? Kind::kBreak : Kind::kContinue);
    next();
    expect(TokenKind::kBlockEnd, "\"%}\"");
    return node;
  }
  const std::string name = expect_name();
  fail(fmt::format("the tag \"{}\" is not supported", name));
  return make(Kind::kScope);
}

// After "if" or "elif".
NodePtr Parser::if_statement() {
  const Deeper deeper(*this);
  NodePtr node = make(Kind::kIf);
  node->kids.push_back(expression_or_tuple());
  expect(TokenKind::kBlockEnd, "\"%}\"");
  if (failed()) return node;
  node->body = statements({"elif", "else", "endif"});
  if (take_name("elif")) {
    node->other.push_back(if_statement());
    return done(std::move(node));
  }
  if (take_name("else")) {
    expect(TokenKind::kBlockEnd, "\"%}\"");
    node->other = statements({"endif"});
  }
  end_block("endif");
  return done(std::move(node));
}

std::vector<std::string> Parser::targets() {
  const bool parenthesis = take_operator("(");
  std::vector<std::string> names = {expect_name()};
  while (!failed() && take_operator(",")) names.push_back(expect_name());
  if (parenthesis) expect_operator(")");
  return names;
}

NodePtr Parser::for_statement() {
  NodePtr node = make(Kind::kFor);
  node->names = targets();
  if (!take_name("in")) fail("expected \"in\"");
  node->kids.push_back(either());
  if (is_operator(",")) fail("parentheses are missing around the tuple");
  node->kids.push_back(take_name("if") ? expression() : nullptr);
  if (is_name("recursive")) fail("recursive loops are not supported");
  expect(TokenKind::kBlockEnd, "\"%}\"");
  node->body = statements({"else", "endfor"});
  if (take_name("else")) {
    expect(TokenKind::kBlockEnd, "\"%}\"");
    node->other = statements({"endfor"});
  }
  end_block("endfor");
  return done(std::move(node));
}

NodePtr Parser::filter_chain() {
  NodePtr chain = make(Kind::kBodyText);
  while (is_operator("|") && !failed()) chain = apply_filter(std::move(chain));
  return chain;
}

NodePtr Parser::set_statement() {
  NodePtr node = make(Kind::kSet);
  if (now().kind == TokenKind::kName && tokens_[at_ + 1].kind == TokenKind::kOperator && tokens_[at_ + 1].text == ".") {
    NodePtr target = make(Kind::kAttribute);
    NodePtr object = make(Kind::kName);
    object->name = expect_name();
    next();
    target->name = expect_name();
    target->kids.push_back(std::move(object));
    expect_operator("=");
    node->kids.push_back(expression_or_tuple());
    node->kids.push_back(done(std::move(target)));
    expect(TokenKind::kBlockEnd, "\"%}\"");
    return done(std::move(node));
  }
  node->names = targets();
  if (take_operator("=")) {
    node->kids.push_back(expression_or_tuple());
    expect(TokenKind::kBlockEnd, "\"%}\"");
    return done(std::move(node));
  }
  if (node->names.size() != 1) fail("a block can be set to one name only");
  node->kind = Kind::kSetBlock;
  node->kids.push_back(filter_chain());
  expect(TokenKind::kBlockEnd, "\"%}\"");
  node->body = statements({"endset"});
  end_block("endset");
  return done(std::move(node));
}

NodePtr Parser::macro_statement() {
  NodePtr node = make(Kind::kMacro);
  node->name = expect_name();
  expect_operator("(");
  while (!failed() && !is_operator(")")) {
    node->names.push_back(expect_name());
    if (take_operator("=")) {
      node->kids.push_back(expression());
    } else if (!node->kids.empty()) {
      fail("a parameter without a default after one with a default");
    }
    if (!take_operator(",")) break;
  }
  expect_operator(")");
  expect(TokenKind::kBlockEnd, "\"%}\"");
  node->body = statements({"endmacro"});
  if (take_name("endmacro") && now().kind == TokenKind::kName) next();  // the name may be repeated
  expect(TokenKind::kBlockEnd, "\"%}\"");
  return done(std::move(node));
}

NodePtr Parser::with_statement() {
  NodePtr node = make(Kind::kWith);
  while (!failed() && now().kind != TokenKind::kBlockEnd) {
    node->names.push_back(expect_name());
    expect_operator("=");
    node->kids.push_back(expression());
    if (!take_operator(",")) break;
  }
  expect(TokenKind::kBlockEnd, "\"%}\"");
  node->body = statements({"endwith"});
  end_block("endwith");
  return done(std::move(node));
}

NodePtr Parser::filter_statement() {
  NodePtr node = make(Kind::kFilter);
  NodePtr chain = make(Kind::kApply);
  chain->name = expect_name();
  if (!failed() && !has_filter(chain->name)) fail(fmt::format("no filter named \"{}\"", chain->name));
  chain->kids.push_back(make(Kind::kBodyText));
  if (is_operator("(")) arguments(*chain);
  chain = done(std::move(chain));
  while (is_operator("|") && !failed()) chain = apply_filter(std::move(chain));
  node->kids.push_back(std::move(chain));
  expect(TokenKind::kBlockEnd, "\"%}\"");
  node->body = statements({"endfilter"});
  end_block("endfilter");
  return done(std::move(node));
}

// Marks what an assistant wrote, for training; rendering takes no notice.
NodePtr Parser::generation_statement() {
  NodePtr node = make(Kind::kScope);
  expect(TokenKind::kBlockEnd, "\"%}\"");
  node->body = statements({"endgeneration"});
  end_block("endgeneration");
  return done(std::move(node));
}

}  // namespace sonde::jinja
