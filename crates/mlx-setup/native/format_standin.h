// mlx-c uses std::format with plain "{}" placeholders; GCC before 13 has no <format>.
// Included in front of every mlx-c source; does nothing where the real header exists.
#pragma once
#if defined(__has_include)
#if __has_include(<format>)
#define TINY_LLM_HAS_FORMAT
#endif
#endif
#ifdef TINY_LLM_HAS_FORMAT
#include <format>
#else
#include <sstream>
#include <string>
#include <string_view>

namespace std {

namespace tiny_llm_format {

inline void append(ostringstream& out, string_view pattern) { out << pattern; }

template <class First, class... Rest>
void append(ostringstream& out, string_view pattern, const First& first, const Rest&... rest) {
  const auto placeholder = pattern.find("{}");
  if (placeholder == string_view::npos) {
    out << pattern;
    return;
  }
  out << pattern.substr(0, placeholder) << first;
  append(out, pattern.substr(placeholder + 2), rest...);
}

}  // namespace tiny_llm_format

template <class... Arguments>
string format(string_view pattern, const Arguments&... arguments) {
  ostringstream out;
  tiny_llm_format::append(out, pattern, arguments...);
  return out.str();
}

}  // namespace std
#endif
