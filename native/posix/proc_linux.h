// Reading what Linux shows under /proc. See proc(5).
#pragma once

#include <string>

namespace os_mutex {

// Reads a file of /proc whole. False: it can't be read.
bool readProc(const std::string& path, std::string& text);

// Whether the mounted /proc counts pids as this process does. It does not where a sandbox made a pid namespace and
// mounted no /proc of its own: /proc/12 is then another process than the one that kill(12, …) would reach.
bool procCountsAsWeDo();

// The rest of the line that begins with `name`, after blanks; empty if there is none. `text` begins at the start of a
// line.
std::string procField(const std::string& text, const char* name);

}  // namespace os_mutex
