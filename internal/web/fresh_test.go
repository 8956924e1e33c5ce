package web

import (
	"net/http"
	"testing"
	"time"
)

func TestFresh(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                           UsualFresh,
		"public":                     UsualFresh,
		"max-age=600":                10 * time.Minute,
		"public, Max-Age=\"600\"":    10 * time.Minute,
		"immutable, max-age=120, xx": 2 * time.Minute,
		"max-age=1":                  MinFresh,
		"max-age=0":                  MinFresh,
		"max-age=999999999":          MaxFresh,
		"max-age=99999999999999999":  MaxFresh,
		"max-age=-5":                 MinFresh,
		"max-age=+5000":              MinFresh,
		"max-age=x":                  MinFresh,
		"max-age=":                   MinFresh,
		"max-age":                    MinFresh,
		"max-age=1e9":                MinFresh,
		"s-maxage=600":               UsualFresh,
		"no-store":                   MinFresh,
		"NO-CACHE":                   MinFresh,
		`no-cache="set-cookie"`:      MinFresh,
		"max-age=86400, no-cache":    MinFresh,
		"max-age=600, max-age=300":   5 * time.Minute,
		"max-age=600, max-age=x":     MinFresh,
		"max-age=x, max-age=600":     MinFresh,
	} {
		if got := Fresh(http.Header{"Cache-Control": {header}}); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
	if got := Fresh(http.Header{"Cache-Control": {"max-age=600", "no-store"}}); got != MinFresh {
		t.Errorf("of two headers only the first is read: %s", got)
	}
}
