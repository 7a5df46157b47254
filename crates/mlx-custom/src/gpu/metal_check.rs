//! Does a kernel keep to Metal? A check of its source without Apple's compiler.
//!
//! What runs in the emulator and on CUDA need not be Metal: other compilers don't care about address spaces, and they know names that
//! Metal hasn't. This looks at words, not at types, so it can't find everything; it finds the usual slips, with their line.

use std::collections::HashSet;

use crate::gpu::tokens::{SourceError, Token, TokenKind, tokenize};
use crate::gpu::{GpuKernel, Lowered};

/// Something that Metal's compiler would refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In the functions of the header; otherwise in the body.
    pub in_header: bool,
    /// Line of that source, from 1.
    pub line: usize,
    pub message: String,
}

/// Words of CUDA or of C++ on a host that Metal doesn't have, and what to write instead.
const FOREIGN: [(&str, &str); 27] = [
    ("threadIdx", "use thread_position_in_threadgroup"),
    ("blockIdx", "use threadgroup_position_in_grid"),
    ("blockDim", "use threads_per_threadgroup"),
    ("gridDim", "use threadgroups_per_grid"),
    ("warpSize", "use threads_per_simdgroup"),
    ("dim3", "use uint3"),
    ("std", "Metal has its own library, `metal::`"),
    ("cuda", "that namespace is CUDA's"),
    ("emu", "that namespace is the emulator's"),
    ("inf", "MLX defines it as a macro on CUDA; use INFINITY"),
    ("printf", "a GPU can't print"),
    ("assert", "there is none on a GPU"),
    ("malloc", "memory can't be allocated on a GPU"),
    ("new", "memory can't be allocated on a GPU"),
    ("delete", "memory can't be allocated on a GPU"),
    ("double", "Metal has no double"),
    ("asm", "Metal has no inline assembly"),
    ("goto", "Metal has no goto"),
    ("try", "Metal has no exceptions"),
    ("catch", "Metal has no exceptions"),
    ("throw", "Metal has no exceptions"),
    ("virtual", "Metal has no virtual functions"),
    ("dynamic_cast", "Metal has no virtual functions"),
    ("typeid", "Metal has no virtual functions"),
    ("thread_local", "use the address space `thread`"),
    ("register", "the compiler chooses registers"),
    ("kernel", "the function around the body is written by MLX"),
];

/// What MLX hands to a kernel when its body uses the name.
const INDICES: [&str; 11] = [
    "thread_position_in_grid",
    "threads_per_grid",
    "threadgroup_position_in_grid",
    "threadgroups_per_grid",
    "thread_position_in_threadgroup",
    "threads_per_threadgroup",
    "thread_index_in_threadgroup",
    "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup",
    "simdgroups_per_threadgroup",
    "threads_per_simdgroup",
];

/// The dialect's names with a prefix of their own; any other name that begins like these is a slip.
const FUNCTIONS: [&str; 48] = [
    "threadgroup_barrier",
    "simdgroup_barrier",
    "simd_sum",
    "simd_max",
    "simd_min",
    "simd_shuffle",
    "simd_shuffle_xor",
    "simd_shuffle_down",
    "simd_shuffle_up",
    "simd_broadcast",
    "simd_broadcast_first",
    "simd_any",
    "simd_all",
    "tile_load",
    "tile_load_transposed",
    "tile_clear",
    "tile_multiply_add",
    "tile_for_each",
    "tile_for_each_of_row",
    "tile_for_each_pair",
    "tile_row_max",
    "tile_row_sum",
    "tile_row_of",
    "tile_scale_rows",
    "tile_acc_to_a",
    "tile_value",
    "tile_pair_row",
    "tile_pair_column",
    "tile_set_pair",
    "tile_set_pair_transposed",
    "tile_multiply_add_left",
    "wide_place",
    "wide_publish",
    "wide_begin",
    "wide_commit",
    "wide_wait",
    "wide_multiply_transposed",
    "wide_multiply_add",
    "load_streamed",
    "async_copy16",
    "async_commit",
    "async_wait",
    "TILE_ROWS_PER_LANE",
    "TILE_VALUES_PER_LANE",
    "thread",
    "threadgroup",
    "mem_threadgroup",
    "mem_device",
];

/// Names with one of these prefixes belong to Metal or to the dialect.
const PREFIXES: [&str; 8] =
    ["simd_", "simdgroup_", "threadgroup_", "threads_per_", "thread_position_", "thread_index_", "async_", "wide_"];

const ADDRESS_SPACES: [&str; 4] = ["device", "constant", "threadgroup", "thread"];

const TYPES: [&str; 20] = [
    "float",
    "half",
    "bfloat16_t",
    "bfloat",
    "uint",
    "int",
    "ushort",
    "short",
    "uchar",
    "char",
    "ulong",
    "long",
    "size_t",
    "bool",
    "void",
    "auto",
    "TileAcc",
    "TileA",
    "TileB",
    "vec",
];

/// Everything found in header and body; empty for a kernel that looks like Metal.
///
/// `types` are the names of the template arguments that stand for types, as in `T`.
pub fn check_metal(kernel: &GpuKernel, types: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (in_header, source) in [(true, kernel.header), (false, kernel.body)] {
        let tokens = match tokenize(source) {
            Ok(tokens) => tokens,
            Err(SourceError { line, message }) => {
                findings.push(Finding { in_header, line, message });
                continue;
            }
        };
        let mut check = Check { source, tokens: &tokens, in_header, types: HashSet::new(), findings: &mut findings };
        check.types.extend(types.iter().copied());
        check.declared_types();
        check.words();
        check.address_spaces();
        if in_header {
            check.functions();
        }
    }
    // A body that can't be split has been reported above.
    if let (Ok(_), Err(SourceError { line, message })) = (tokenize(kernel.body), Lowered::new(kernel)) {
        findings.push(Finding { in_header: false, line, message });
    }
    findings
}

struct Check<'a> {
    source: &'a str,
    tokens: &'a [Token],
    in_header: bool,
    types: HashSet<&'a str>,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Check<'a> {
    fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text(self.source))
    }

    fn find(&mut self, at: usize, message: String) {
        let line = self.tokens.get(at).map_or(1, |token| token.line);
        self.findings.push(Finding { in_header: self.in_header, line, message });
    }

    /// Names after `typename`, `class`, `struct` and `using`.
    fn declared_types(&mut self) {
        for at in 0..self.tokens.len() {
            if matches!(self.text(at), "typename" | "class" | "struct" | "using") {
                self.types.insert(self.text(at + 1));
            }
        }
    }

    fn is_type(&self, word: &str) -> bool {
        let scalar = word.trim_end_matches(['2', '3', '4']);
        TYPES.contains(&word) || TYPES.contains(&scalar) || self.types.contains(word)
    }

    fn words(&mut self) {
        for (at, token) in self.tokens.iter().enumerate() {
            let word = token.text(self.source);
            if token.kind == TokenKind::Directive {
                if word.starts_with("#include") && !word.contains("<metal_") {
                    self.find(at, format!("`{word}`: only Metal's own headers can be included"));
                }
                continue;
            }
            if token.kind != TokenKind::Word {
                continue;
            }
            if let Some((_, instead)) = FOREIGN.iter().find(|(foreign, _)| *foreign == word) {
                self.find(at, format!("`{word}` is not Metal: {instead}"));
            } else if word.starts_with("__") {
                self.find(at, format!("`{word}` is not Metal: names with two underscores belong to compilers"));
            } else if INDICES.contains(&word) {
                if self.in_header {
                    self.find(at, format!("only the kernel's body knows `{word}`; pass it to the function"));
                }
            } else if PREFIXES.iter().any(|prefix| word.starts_with(prefix)) && !FUNCTIONS.contains(&word) {
                self.find(at, format!("`{word}` is no name of the dialect that kernels are written in"));
            } else if word.ends_with("_barrier") && self.text(at + 2) != "mem_flags" {
                self.find(at, format!("`{word}` takes what it orders: mem_flags::mem_threadgroup"));
            }
        }
    }

    /// Every pointer and reference says where it points to.
    fn address_spaces(&mut self) {
        for at in 1..self.tokens.len() {
            let symbol = self.text(at);
            let is_double = self.text(at + 1) == symbol || self.text(at - 1) == symbol;
            if !matches!(symbol, "*" | "&") || (symbol == "&" && is_double) {
                continue;
            }
            let Some(start) = self.declaration_start(at) else { continue };
            if (start..at).any(|before| ADDRESS_SPACES.contains(&self.text(before))) {
                continue;
            }
            let declaration: Vec<&str> = (start..=at).map(|before| self.text(before)).collect();
            let declaration = declaration.join(" ");
            self.find(at, format!("`{declaration}` needs an address space: device, constant, threadgroup or thread"));
        }
    }

    /// Where the type begins whose pointer or reference the symbol at `at` makes; `None` for a product or an address.
    fn declaration_start(&self, at: usize) -> Option<usize> {
        let mut first = self.without_arguments(at.checked_sub(1)?)?;
        let mut is_type = self.is_type(self.text(first));
        // `TYPE const *`
        if self.text(first) == "const" {
            first = first.checked_sub(1)?;
            is_type = self.is_type(self.text(first));
        }
        if !is_type {
            return None;
        }
        while first > 0 && self.tokens[first - 1].kind == TokenKind::Word && self.text(first - 1) != "return" {
            first -= 1;
        }
        // `float(x) * y` and `sizeof(float) * n` have a bracket between; a type alone is a declaration or a cast.
        Some(first)
    }

    /// The name in front of the arguments of a template that end at `last`; `last` itself if none do.
    fn without_arguments(&self, last: usize) -> Option<usize> {
        let (mut at, mut depth) = (last, 0);
        if self.text(at) == ">" {
            loop {
                match self.text(at) {
                    ">" => depth += 1,
                    "<" => depth -= 1,
                    ";" | "{" | "}" => return None,
                    _ => {}
                }
                at = at.checked_sub(1)?;
                if depth == 0 {
                    break;
                }
            }
        }
        Some(at)
    }

    /// Functions of a header are `inline`, and none calls itself.
    fn functions(&mut self) {
        let (mut at, mut start) = (0, 0);
        while at < self.tokens.len() {
            match self.text(at) {
                "{" => {
                    let end = self.closing(at, "{", "}");
                    if let Some(name) = self.function_name(start, at) {
                        self.function(start, at, end, name);
                    }
                    (at, start) = (end + 1, end + 1);
                }
                ";" => (at, start) = (at + 1, at + 1),
                _ if self.tokens[at].kind == TokenKind::Directive => (at, start) = (at + 1, at + 1),
                _ => at += 1,
            }
        }
    }

    fn function(&mut self, start: usize, open: usize, end: usize, name: usize) {
        let words: Vec<&str> = (start..open).map(|at| self.text(at)).collect();
        let called = self.text(name);
        if !words.iter().any(|word| matches!(*word, "inline" | "constexpr")) {
            self.find(name, format!("function `{called}` must be inline: a header may be there twice"));
        }
        if let Some(again) = (open..end).find(|&at| self.text(at) == called && self.text(at + 1) == "(") {
            // A call of an overload of the same name looks the same; kernels can do without.
            self.find(again, format!("`{called}` calls itself (or an overload): Metal has no recursion"));
        }
    }

    /// The token with the name of the function whose body opens at `open`; `None` for structures and lists of values.
    fn function_name(&self, start: usize, open: usize) -> Option<usize> {
        let has = |word: &str| (start..open).any(|at| self.text(at) == word);
        if has("struct") || has("enum") || has("=") {
            return None;
        }
        let bracket = (start..open).find(|&at| self.text(at) == "(")?;
        // A specialisation has arguments between its name and the bracket.
        self.without_arguments(bracket.checked_sub(1)?).filter(|&name| name >= start)
    }

    fn closing(&self, open: usize, opens: &str, closes: &str) -> usize {
        let mut depth = 0_usize;
        for at in open..self.tokens.len() {
            let text = self.text(at);
            if text == opens {
                depth += 1;
            } else if text == closes {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
        }
        self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(header: &'static str, body: &'static str) -> Vec<(usize, String)> {
        let kernel = GpuKernel { name: "test", inputs: &[], outputs: &["out"], header, body, strided: false };
        check_metal(&kernel, &["T"]).into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[track_caller]
    fn assert_found(header: &'static str, body: &'static str, line: usize, part: &str) {
        let found = findings(header, body);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0 == line && found[0].1.contains(part), "{found:?}");
    }

    #[test]
    fn metal_passes() {
        let body = "const device T* row = a + N * thread_position_in_grid.x; // threadIdx\n\
            threadgroup T tile[32];\nthreadgroup vec<T, 4>* p = (threadgroup vec<T, 4>*)tile;\n\
            auto f = [&](thread float& x, const device half4* y) { x = T(2) * x; return float(N) * x && x; };\n\
            threadgroup_barrier(mem_flags::mem_threadgroup);\nbool b = x & y && c;\nint t = sizeof(T) * n;";
        let header = "#include <metal_stdlib>\ntemplate <typename U>\ninline float load(const device U* p) { return float(*p); }\n\
            template <>\ninline float load<float>(const device float* p) { return as_type<float>(as_type<uint>(*p)); }\n\
            struct Pair { float a; float b; };\nconstant float table[2] = {1.0f, 2.0f};";
        assert_eq!(findings(header, body), []);
    }

    #[test]
    fn words_of_others() {
        assert_found("", "int i;\ni = threadIdx.x;", 2, "thread_position_in_threadgroup");
        assert_found("", "float x = std::max(a, b);", 1, "`std`");
        assert_found("", "__syncthreads();", 1, "underscores");
        assert_found("", "double x = 0;", 1, "double");
        assert_found("#include <vector>", "", 1, "included");
        assert_found("", "x = simd_total(x);", 1, "simd_total");
        assert_found("", "x = thread_position_in_group;", 1, "thread_position_in_group");
    }

    #[test]
    fn pointers_without_an_address_space() {
        assert_found("", "int i;\nfloat* p = a;", 2, "`float *` needs an address space");
        assert_found("", "auto f = [](const T& x) { return x; };", 1, "const T &");
        assert_found("", "uint4 x = *(const uint4*)(a);", 1, "const uint4 *");
        assert_found("", "uint4 x = *reinterpret_cast<const uint4*>(a);", 1, "const uint4 *");
        assert_found("template <typename V>\ninline void f(V* p) { *p = 0; }", "", 2, "V *");
        assert_found("", "vec<T, 4>& v = w;", 1, "vec < T , 4 > &");
        assert_found("", "auto& v = w;", 1, "auto &");
    }

    #[test]
    fn memory_barriers_and_functions() {
        assert_found("", "if (x) {\n  threadgroup float a[3];\n}", 2, "top level");
        assert_found("", "threadgroup_barrier();", 1, "mem_threadgroup");
        assert_found("float f(float x) { return x; }", "", 1, "inline");
        assert_found("inline int f(int n) {\n  return n < 2 ? 1 : n * f(n - 1);\n}", "", 2, "recursion");
        assert_found("inline uint f() {\n  return thread_index_in_simdgroup;\n}", "", 2, "only the kernel's body");
        assert_found("", "/* x", 1, "never ends");
    }
}
