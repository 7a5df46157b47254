// No exception crosses to Rust.
#pragma once

#include <cstring>
#include <exception>

#include "bridge.h"

// Runs `work`; what it throws goes to `report`.
template <typename Work>
bool guarded(mlx_custom_text report, void* report_context, Work work) {
  try {
    work();
    return true;
  } catch (const std::exception& error) {
    report(report_context, error.what(), std::strlen(error.what()));
  } catch (...) {
    constexpr char unknown[] = "unknown C++ exception";
    report(report_context, unknown, sizeof(unknown) - 1);
  }
  return false;
}
