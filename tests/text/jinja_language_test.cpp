// The template language, expression by expression; expected texts are those of Jinja 3.1 under trim_blocks and
// lstrip_blocks.
#include <gtest/gtest.h>

#include "text/jinja.h"

namespace sonde {
namespace {

Result<Prompt> render_prompt(std::string_view source, std::string_view messages = "[]") {
  SONDE_TRY(const auto parsed, JinjaTemplate::parse(source));
  Conversation conversation;
  conversation.messages = OrderedJson::parse(messages);
  return parsed->render(conversation, {{"bos_token", "<s>"}});
}

std::string render(std::string_view source, std::string_view messages = "[]") {
  const auto prompt = render_prompt(source, messages);
  return prompt.ok() ? prompt.value().text() : "error: " + prompt.error().what;
}

TEST(JinjaLanguage, Expressions) {
  EXPECT_EQ(render("{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 1 + 2.0 }}"),
            "3 -4 2 3.5 1024 0.5 3.0");
  EXPECT_EQ(render("{{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1.5e300 }}"),
            "1e+16 1000000000000000.0 0.0001 1e-05 1.5e+300");
  EXPECT_EQ(render("{{ 'a' ~ 1 ~ none ~ true }} {{ 'ab' * 2 }} {{ [1] + [2, 'x'] }} {{ (1,) }} {{ {'k': 'v'} }}"),
            "a1NoneTrue abab [1, 2, 'x'] (1,) {'k': 'v'}");
  EXPECT_EQ(render("{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' in 'cat' }} {{ 3 not in [1, 2] }} {{ not 1 == 2 }} {{ 1 == "
                   "1.0 }} {{ true == 1 }}"),
            "True False True True True True True");
  EXPECT_EQ(render("{{ 'yes' if 0 else 'no' }}{{ 'x' if false }}{{ none or 'd' }}{{ 'a' and 'b' }}"), "nodb");
  EXPECT_EQ(render("{{ 'héllo'[1] }}{{ 'héllo'[::-1] }} {{ [1,2,3,4,5][1:4] }} {{ [1,2,3][::-1] }} {{ [1,2,3,4,5][-2:] "
                   "}} {{ 'abc'[5:] }}|{{ [1,2,3,4][::2] }}"),
            "éolléh [2, 3, 4] [3, 2, 1] [4, 5] |[1, 3]");
  EXPECT_EQ(render("{{ '\\n\\t\\x41\\u00e9\\'' }} {{ \"a\" \"b\" }}"), "\n\tA\u00e9' ab");
  EXPECT_EQ(render("{{ missing }}|{{ missing is defined }}|{{ missing | default('d') }}|{{ '' | default('d', true) }}"),
            "|False|d|d");
  EXPECT_EQ(render("{{ -1 | abs }} {{ 10 is divisibleby 5 }} {{ 3 is odd }} {{ 'x' is not none }} {{ [] is iterable }} "
                   "{{ 'A' is upper }}"),
            "1 True True True True True");
}

TEST(JinjaLanguage, MethodsAndFilters) {
  EXPECT_EQ(render("{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a,b,c'.split(',', 1) }}|{{ 'a b  c'.split() "
                   "}}|{{ 'a,b'.split(',')[-1] }}"),
            "x|a|['a', 'b,c']|['a', 'b', 'c']|b");
  EXPECT_EQ(render("{{ 'aXb'.upper() }} {{ 'it is'.title() }} {{ 'ABC' | capitalize }} {{ 'a-b-a'.replace('a', 'c', 1) "
                   "}} {{ 'abc'.startswith(('x', 'a')) }}"),
            "AXB It Is Abc c-b-a True");
  EXPECT_EQ(render("{{ {'b': 1, 'a': 2} | dictsort }} {{ [3, 1, 2] | sort }} {{ ['b', 'A'] | sort }} {{ [1, 1, 2] | "
                   "unique | list }} {{ [1, 2] | reverse | list }}"),
            "[('a', 2), ('b', 1)] [1, 2, 3] ['A', 'b'] [1, 2] [2, 1]");
  EXPECT_EQ(render("{{ {'a': [1, 'é\"', none]} | tojson }} {{ [1, {}] | tojson(indent=2) }} {{ 'é' | "
                   "tojson(ensure_ascii=true) }}"),
            "{\"a\": [1, \"é\\\"\", null]} [\n  1,\n  {}\n] \"\\u00e9\"");
  EXPECT_EQ(render("{{ messages | map(attribute='role') | join('+') }} {{ messages | selectattr('role', 'equalto', "
                   "'b') | list | length }} {{ messages | rejectattr('n') | map(attribute='role') | first }}",
                   R"([{"role":"a","n":1},{"role":"b"}])"),
            "a+b 1 b");
  EXPECT_EQ(render("{{ 'a\nb' | indent(2) }} {{ '3' | int + 1 }} {{ '2.5' | float }} {{ [1, 2] | sum }} {{ [4, 9] | "
                   "max }} {{ 'x' | string | length }}"),
            "a\n  b 4 2.5 3 9 1");
}

TEST(JinjaLanguage, Statements) {
  EXPECT_EQ(render("{% for x in [1,2,3] %}{{ loop.index }}{{ ',' if not loop.last }}{% endfor %}"), "1,2,3");
  EXPECT_EQ(render("{% for x in [1,2,3,4] if x is even %}{{ x }}{{ loop.length }}{% else %}none{% endfor %}{% for x in "
                   "[] %}{% else %}!{% endfor %}"),
            "2242!");
  EXPECT_EQ(render("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% "
                   "endif %}{{ x }}"),
            "13");
  EXPECT_EQ(render("{% set ns = namespace(n=0) %}{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}{% set "
                   "ns.n = ns.n + i %}{% endfor %}{{ ns.n }}"),
            "3");
  EXPECT_EQ(render("{% macro m(a, b='x') %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, b=2) }}{{ m(b=3) }}"),
            "1x123");
  EXPECT_EQ(render("{% set t %} a {{ 1 }} {% endset %}[{{ t }}]{% set u | trim %} b {% endset %}[{{ u }}]{% filter "
                   "upper %}x{% endfilter %}"),
            "[ a 1 ][b]X");
  EXPECT_EQ(render("{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}{% generation %}g{% endgeneration "
                   "%}{% raw %}{{ x }}{% endraw %}"),
            "3Falseg{{ x }}");
  EXPECT_EQ(render("{% for a, b in [(1, 2), (3, 4)] %}{{ a * b }} {% endfor %}{% set c, d = 5, 6 %}{{ c ~ d }}"),
            "2 12 56");
  EXPECT_EQ(render("{% for x in 'ab' %}{{ loop.previtem }}{{ x }}{{ loop.nextitem }}{{ loop.revindex }}{{ "
                   "loop.cycle('-', '+') }}{% endfor %}"),
            "ab2-ab1+");
}

TEST(JinjaLanguage, WhiteSpace) {
  EXPECT_EQ(render("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc");
  EXPECT_EQ(render("a \n {%- if true -%} \n b {%- endif %} c"), "ab c");
  EXPECT_EQ(render("x {# c #}\ny\n  {# d #}\nz"), "x y\nz");
  EXPECT_EQ(render("  {%+ if true %}a{% endif +%}\nb"), "  a\nb");
  EXPECT_EQ(render("  {{ 1 }}  \n{{ 2 -}}  \n 3"), "  1  \n23");
  EXPECT_EQ(render("a\r\nb\r\n\r\n"), "a\nb\n");
}

TEST(JinjaLanguage, Errors) {
  EXPECT_EQ(render("{{ 'a' + none }}"), "error: can only concatenate str (not \"NoneType\") to str");
  EXPECT_EQ(render("{{ x.y }}"), "error: 'x' is undefined");
  EXPECT_EQ(render("{{ 'a' in none }}"), "error: argument of type 'NoneType' is not iterable");
  EXPECT_EQ(render("{{ raise_exception('no: ' ~ 1) }}"), "error: no: 1");
  EXPECT_EQ(render("{{ [].append(1) }}"), "error: values cannot be changed: 'append' is not allowed");
  EXPECT_EQ(render("{{ ''.__class__ }}"), "");
  EXPECT_EQ(render("{{ ''.__class__.__mro__ }}"), "error: 'str object' has no attribute '__class__'");
  const auto late = render_prompt("a\nb\n{{ 1 // 0 }}");
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().where, "chat template, line 3");
  for (const char* broken : {"{{", "{% if %}", "{% for x %}{% endfor %}", "{{ 1 + }}", "{% endif %}", "{{ x | nope }}",
                             "{{ x is nope }}", "{% include 'x' %}", "{# a", "{{ 'a }}", "{% if 1 %}", "{{ a(*b) }}",
                             "{{ [1, }}", "{% macro m(a=1, b) %}{% endmacro %}", "{{ 99999999999999999999 }}"}) {
    EXPECT_FALSE(render_prompt(broken).ok()) << broken;
  }
}

TEST(JinjaLanguage, Bounds) {
  EXPECT_FALSE(render_prompt("{{ " + std::string(100000, '(')).ok());
  EXPECT_FALSE(render_prompt("{{ " + std::string(100000, '[')).ok());
  EXPECT_FALSE(render_prompt("{{ " + std::string(100000, '-') + "1 }}").ok());
  std::string sum = "{{ 1";
  for (int i = 0; i < 5000; ++i) sum += " + 1";
  EXPECT_FALSE(render_prompt(sum + " }}").ok());
  EXPECT_FALSE(render_prompt("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").ok());
  EXPECT_FALSE(
      render_prompt(
          "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}")
          .ok());
  EXPECT_FALSE(
      render_prompt("{% set ns = namespace(x=[1]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}")
          .ok());
  EXPECT_FALSE(
      render_prompt(
          "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}")
          .ok());
  EXPECT_FALSE(render_prompt("{{ 'a' * 99999999999 }}").ok());
  EXPECT_FALSE(render_prompt("{{ range(99999999999) }}").ok());
  EXPECT_FALSE(render_prompt("{% set ns = namespace() %}{% set ns.a = [ns] %}").ok());
}

TEST(JinjaLanguage, OriginOfEveryByte) {
  const auto prompt = render_prompt(
      "<a>{{ messages[0].content | trim | upper }}<b>{{ messages[0].content.split('|')[1] ~ '<c>' }}{{ messages | "
      "tojson }}{{ ['<d>', messages[0].role] | join('<e>') }}{{ bos_token }}",
      R"([{"role":"u<r>","content":" x<1>|y<2> "}])");
  ASSERT_TRUE(prompt.ok());
  std::string trusted, given;
  for (const PromptPart& part : prompt.value().parts) (part.trusted ? trusted : given) += part.text;
  EXPECT_EQ(trusted, "<a><b><c><d><e><s>");
  EXPECT_EQ(given, "X<1>|Y<2>y<2> [{\"role\": \"u<r>\", \"content\": \" x<1>|y<2> \"}]u<r>");
}

}  // namespace
}  // namespace sonde
