package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// How long an answer that was fetched is taken from memory, at least, at most, and
// where it does not say.
const (
	MinFresh   = time.Minute
	UsualFresh = 5 * time.Minute
	MaxFresh   = 24 * time.Hour
)

// Fresh is how long an answer may be taken from memory by what its Cache-Control says
// (RFC 9111 §4.2.1, §5.2.2), from MinFresh to MaxFresh. A max-age that cannot be read
// is none at all: the answer is stale, as the section advises. Of several, the least
// counts.
func Fresh(h http.Header) time.Duration {
	age, said := UsualFresh, false
	for part := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), "=")
		switch name {
		case "no-store", "no-cache":
			return MinFresh
		case "max-age":
			n := maxAge(strings.Trim(value, `"`))
			if !said || n < age {
				age, said = n, true
			}
		}
	}
	return min(max(age, MinFresh), MaxFresh)
}

// maxAge reads delta-seconds (RFC 9111 §1.2.2), which may be more than fits.
func maxAge(s string) time.Duration {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return MaxFresh
	}
	return time.Duration(n) * time.Second
}
