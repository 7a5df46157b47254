// Of each thread's eight words the first, then the next but one as a pair, then the last four: added up with different weights.
const uint t = thread_position_in_grid.x;
const uint first = load_streamed(words + 8 * t);
const uint2 pair = load_streamed((const device uint2*)(words + 8 * t + 2));
const uint4 four = load_streamed((const device uint4*)(words + 8 * t + 4));
out[t] = first + 2 * pair.x + 3 * pair.y + 4 * four.x + 5 * four.y + 6 * four.z + 7 * four.w;
