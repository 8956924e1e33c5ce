// Loaded before mcp-remote: its clock never says the same millisecond twice. Version
// 0.15.1 names a temporary file after it, so that of two answers in one millisecond
// the second cannot be kept, and it signs in anew though the server renewed both.
const now = Date.now
let last = 0
Date.now = () => (last = Math.max(last + 1, now()))
