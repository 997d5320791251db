// Expressions of a template; jinja_parser.cpp reads them, jinja_statements.cpp the statements around them.
#pragma once

#include <optional>

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace sonde::jinja {

// The first error sticks; after it every function returns quickly with something harmless.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  Result<Nodes> run();

 private:
  using Kind = Node::Kind;

  const Token& now() const { return tokens_[at_]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is_operator(std::string_view text) const { return now().kind == Token::Kind::kOperator && now().text == text; }
  bool is_name(std::string_view text) const { return now().kind == Token::Kind::kName && now().text == text; }
  bool take_operator(std::string_view text);
  bool take_name(std::string_view text);
  void expect_operator(std::string_view text);
  void expect(Token::Kind kind, std::string_view what);
  std::string expect_name();
  bool failed() const { return error_.has_value(); }
  void fail(std::string what);
  NodePtr make(Kind kind) const;
  NodePtr done(NodePtr node);  // depth from its children, within kMaxNesting

  NodePtr expression();  // with "if ... else"
  NodePtr expression_or_tuple();
  NodePtr either();
  NodePtr both();
  NodePtr negation();
  NodePtr comparison();
  NodePtr sum();
  NodePtr joined();
  NodePtr product();
  NodePtr power();
  NodePtr unary(bool with_filters);
  NodePtr primary();
  NodePtr postfix(NodePtr node);
  NodePtr filters(NodePtr node);
  NodePtr apply_filter(NodePtr node);
  NodePtr test(NodePtr node);
  NodePtr subscript(NodePtr node);
  void arguments(Node& call);
  NodePtr binary(NodePtr left, std::string name, NodePtr right);
  NodePtr sequence(Kind kind, std::string_view close);
  NodePtr dictionary();

  Nodes statements(std::initializer_list<std::string_view> ends);
  NodePtr statement();
  NodePtr if_statement();
  NodePtr for_statement();
  NodePtr set_statement();
  NodePtr macro_statement();
  NodePtr with_statement();
  NodePtr filter_statement();
  NodePtr generation_statement();
  NodePtr filter_chain();
  std::vector<std::string> targets();
  void end_block(std::string_view name);

  struct Deeper;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  std::optional<Error> error_;
};

// Counts nesting while it lives.
struct Parser::Deeper {
  explicit Deeper(Parser& parser) : parser_(parser) {
    if (++parser_.depth_ > kMaxNesting) parser_.fail("nested too deeply");
  }
  ~Deeper() { --parser_.depth_; }
  Parser& parser_;
};

}  // namespace sonde::jinja
