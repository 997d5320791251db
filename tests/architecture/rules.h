// The rules of the house as functions over a source tree: each returns the places that break it, "FILE:LINE: why".
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sonde::house {

using Findings = std::vector<std::string>;

// The files of the tree, relative to it, without build output and repositories' own folders; sorted.
std::vector<std::string> files(const std::filesystem::path& tree);

// Includes point only to folders higher in the map; server and cli may use all.
Findings includes_go_one_way(const std::filesystem::path& tree);
// Source files of more than 500 lines, unless excused with a reason.
Findings files_are_short(const std::filesystem::path& tree);
// Names of quant types stand in src/tensor/quant alone.
Findings quant_types_have_one_home(const std::filesystem::path& tree);
// Names of model families stand in src/model/families and the tables of names that files need.
Findings families_have_one_home(const std::filesystem::path& tree);
// No paths of one machine and no words about anything but the product.
Findings words_are_the_products_own(const std::filesystem::path& tree);
// Every *_test.cpp asserts something.
Findings tests_can_fail(const std::filesystem::path& tree);
// Every parser of foreign bytes has a libFuzzer target, and every target a corpus.
Findings parsers_are_fuzzed(const std::filesystem::path& tree);
// The map in README.md, README.zh.md and ARCHITECTURE.md names the folders of src, in order, and no other.
Findings maps_are_true(const std::filesystem::path& tree);

}  // namespace sonde::house
