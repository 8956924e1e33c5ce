package countersign

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseChallenge(t *testing.T) {
	type c = Challenge
	p := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, tt := range []struct {
		in   []string
		want []Challenge // nil: refused
	}{
		{nil, []Challenge{}},
		{[]string{""}, []Challenge{}},
		{[]string{" , ,"}, []Challenge{}},
		{[]string{`Bearer`}, []Challenge{{Scheme: "Bearer", Params: p()}}},
		{[]string{`Bearer, DPoP`}, []Challenge{{Scheme: "Bearer", Params: p()}, {Scheme: "DPoP", Params: p()}}},
		{[]string{`Negotiate YWJj==, Basic realm=x`}, []Challenge{{Scheme: "Negotiate", Params: p()}, {Scheme: "Basic", Params: p("realm", "x")}}},
		{[]string{`DPoP Error="insufficient_user_authentication" , ACR_values="phr  phrh",max_age = "300"`}, []Challenge{{
			Scheme: "DPoP", Error: "insufficient_user_authentication", ACRValues: []string{"phr", "phrh"}, MaxAge: 5 * time.Minute, HasMaxAge: true,
			Params: p("error", "insufficient_user_authentication", "acr_values", "phr  phrh", "max_age", "300"),
		}}},
		{[]string{`Bearer error_description="a \"quoted\" \\ thing, with=signs", scope="a b"`, `DPoP algs=ES256`}, []Challenge{
			{Scheme: "Bearer", Description: `a "quoted" \ thing, with=signs`, Scope: []string{"a", "b"}, Params: p("error_description", `a "quoted" \ thing, with=signs`, "scope", "a b")},
			{Scheme: "DPoP", Params: p("algs", "ES256")},
		}},
		{[]string{`DPoP max_age=0`}, []Challenge{{Scheme: "DPoP", HasMaxAge: true, Params: p("max_age", "0")}}},
		{[]string{`DPoP error="a`}, nil},
		{[]string{`DPoP error="a\`}, nil},
		{[]string{"DPoP error=\"a\nb\""}, nil},
		{[]string{`DPoP error="a", error="b"`}, nil},
		{[]string{`DPoP error="a", Error="b"`}, nil},
		{[]string{`DPoP max_age="soon"`}, nil},
		{[]string{`DPoP max_age="-1"`}, nil},
		{[]string{`DPoP max_age="99999999999999"`}, nil},
		{[]string{`="x"`}, nil},
		{[]string{`DPoP =x`}, nil},
		{[]string{`DPoP error="a" "b"`}, nil},
		{[]string{`DPoP error="a"`, `DPoP "`}, nil},
		{[]string{strings.Repeat("a", maxChallenge+1)}, nil},
	} {
		got, err := ParseChallenge(tt.in)
		if (err == nil) != (tt.want != nil) {
			t.Errorf("%q: %v", tt.in, err)
			continue
		}
		empty := func(list []Challenge) []Challenge {
			list = slices.Clone(list)
			for i := range list {
				if len(list[i].Scope) == 0 {
					list[i].Scope = nil
				}
				if len(list[i].ACRValues) == 0 {
					list[i].ACRValues = nil
				}
			}
			return append([]c{}, list...)
		}
		if tt.want != nil {
			if d := cmp.Diff(empty(tt.want), empty(got)); d != "" {
				t.Errorf("%q (-want +got)\n%s", tt.in, d)
			}
		} else if got != nil {
			t.Errorf("%q: an error and %v", tt.in, got)
		}
	}
}

func FuzzParseChallenge(f *testing.F) {
	for _, s := range []string{`DPoP error="a", x=y, Bearer abc==, Basic realm="\""`, `a b=c d=e`, `,,a`, `x y`, "a\tb=\"\x80\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseChallenge([]string{s})
		if err != nil && got != nil {
			t.Fatal("an error and a value")
		}
		for _, c := range got {
			if c.Scheme == "" || strings.ContainsAny(c.Scheme, " ,=\"") {
				t.Fatalf("scheme %q", c.Scheme)
			}
			// What we write from what was read is read as the same.
			var parts []string
			for name, v := range c.Params {
				if v != "" && !strings.ContainsRune(v, '\t') {
					parts = append(parts, name, v)
				}
			}
			if len(parts) == 0 {
				continue
			}
			again, err := ParseChallenge([]string{challenge(c.Scheme, parts...)})
			if err != nil || len(again) != 1 {
				t.Fatalf("%q: %v", challenge(c.Scheme, parts...), err)
			}
			for i := 0; i < len(parts); i += 2 {
				if again[0].Params[parts[i]] != parts[i+1] {
					t.Fatalf("%s: %q became %q", parts[i], parts[i+1], again[0].Params[parts[i]])
				}
			}
		}
	})
}

// Secrets do not show themselves, whatever way they are printed.
func TestSecretsStayHidden(t *testing.T) {
	k := newKey(t)
	for _, v := range []any{
		Credential{AccessToken: "hunter2", RefreshToken: "hunter2", IDToken: "hunter2"},
		ClientAuth{ID: "app", Secret: "hunter2"},
		k,
	} {
		var b strings.Builder
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
		for _, s := range []string{fmt.Sprintf("%v %+v %s %#v", v, v, v, v), b.String()} {
			if strings.Contains(s, "hunter2") || strings.Contains(s, "ecdsa") {
				t.Errorf("%T shows itself: %s", v, s)
			}
		}
	}
}
