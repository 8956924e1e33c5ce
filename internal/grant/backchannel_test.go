package grant

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestCheckBinding(t *testing.T) {
	for message, want := range map[string]bool{
		"W4SCT": true, "Pay 12.50 € to Müller & Co": true, "订单 42": true, "שלום": true, "a": true, strings.Repeat("x", MaxBinding): true, "Table #7 (window)": true,
		"": false, " a": false, "a ": false, "a  b": false, strings.Repeat("x", MaxBinding+1): false,
		"a\u202eb": false, "a\u2066b\u2069": false, "a\u200bb": false, "a\u200db": false, "a\ufeffb": false, "a\u00adb": false, "a\u00a0b": false, "a\u2028b": false,
		"a\nb": false, "a\tb": false, "a\x00b": false, "a\x7fb": false, "<b>a</b>": false, `a"b`: false, "a`b": false, "https://x": false, "a\u0301": false,
		"a\ufe0f": false, "😀": false, "a\xffb": false, "\u3164": false, "\uffa0": false, "a\u115fb": false, "\U000e0041": false,
	} {
		if CheckBinding(message) != want {
			t.Errorf("%q: %t, want %t", message, !want, want)
		}
	}
}

// What is taken is what is seen, in the order in which it is written.
func FuzzCheckBinding(f *testing.F) {
	for _, s := range []string{"W4SCT", "", "a b", "a  b", "a\u202eb", "\u3164", "é", "e\u0301", "\xff", strings.Repeat("x", 61)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !CheckBinding(s) {
			return
		}
		if !utf8.ValidString(s) || utf8.RuneCountInString(s) > MaxBinding || s != strings.Join(strings.Fields(s), " ") {
			t.Fatalf("%q is taken", s)
		}
		for _, r := range s {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.M, r) || unicode.Is(unicode.Bidi_Control, r) || !unicode.IsGraphic(r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) {
				t.Fatalf("%q is taken with %U", s, r)
			}
		}
	})
}

func TestBackchannelLife(t *testing.T) {
	for seconds, want := range map[string]time.Duration{
		"": BackchannelLifetime, "1": BackchannelShortest, "30": 30 * time.Second, "120": 2 * time.Minute, "600": BackchannelLongest, "86400": BackchannelLongest,
		"0": 0, "-1": 0, "1.5": 0, "soon": 0, "99999999999999999999": 0, " 1": 0, "+1": 0, "1e2": 0,
	} {
		if life, ok := BackchannelLife(seconds); life != want || ok != (want != 0) {
			t.Errorf("%q: %v %t", seconds, life, ok)
		}
	}
}

func TestNumbers(t *testing.T) {
	seen := map[string]bool{}
	for range 5000 {
		n := NewNumber()
		if len(n) != 2 || n < "10" || n > "99" {
			t.Fatalf("%q", n)
		}
		seen[n] = true
	}
	if len(seen) != 90 {
		t.Errorf("%d different numbers in 5,000", len(seen))
	}
	for typed, want := range map[string]string{"47": "47", " 4 7 ": "47", "4-7": "4-7", "": "", strings.Repeat("4", 100): strings.Repeat("4", 64)} {
		if got := ReadNumber(typed); got != want {
			t.Errorf("%q is read as %q", typed, got)
		}
	}
}

// When a client may ask somebody again, for all that became of what it asked before.
func TestAskAgain(t *testing.T) {
	start := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	at := func(m int) time.Time { return start.Add(time.Duration(m) * time.Minute) }
	// ask is a request that began at m, lived five minutes and was answered at end.
	ask := func(m int, became string, end int) Asked {
		return Asked{Client: "cli_1", Began: at(m), Until: at(m + 5), EndsAt: at(end), Became: became}
	}
	other := ask(0, AskReported, 1)
	other.Client = "cli_2"
	for name, c := range map[string]struct {
		all      []Asked
		now      int
		want     time.Time
		reported bool
	}{
		"never asked":             {nil, 0, time.Time{}, false},
		"still waits":             {[]Asked{ask(0, "", 5)}, 3, time.Time{}, false},
		"nobody answered":         {[]Asked{ask(0, "", 5)}, 5, at(6), false},
		"nobody, twice":           {[]Asked{ask(10, "", 15), ask(0, "", 5)}, 20, at(17), false},
		"nobody, six times":       {[]Asked{ask(0, "", 5), ask(1, "", 6), ask(2, "", 7), ask(3, "", 8), ask(4, "", 9), ask(5, "", 10)}, 20, at(42), false},
		"nobody, ten times":       {[]Asked{ask(0, "", 5), ask(1, "", 6), ask(2, "", 7), ask(3, "", 8), ask(4, "", 9), ask(5, "", 10), ask(6, "", 11), ask(7, "", 12), ask(8, "", 13), ask(9, "", 14)}, 20, at(74), false},
		"no":                      {[]Asked{ask(0, AskDenied, 2)}, 3, at(10), false},
		"mistyped":                {[]Asked{ask(0, AskMistyped, 2)}, 3, at(10), false},
		"no, twice":               {[]Asked{ask(0, AskDenied, 2), ask(3, AskDenied, 4)}, 5, at(64), false},
		"yes after no":            {[]Asked{ask(0, AskDenied, 2), ask(11, AskAllowed, 12)}, 13, time.Time{}, false},
		"nobody after yes":        {[]Asked{ask(0, AskDenied, 2), ask(11, AskAllowed, 12), ask(13, "", 18)}, 18, at(19), false},
		"another client's no":     {[]Asked{other}, 3, time.Time{}, false},
		"reported":                {[]Asked{ask(0, AskReported, 1)}, 3, at(1).Add(ReportedFor), true},
		"reported, and one more":  {[]Asked{ask(0, AskReported, 1), ask(0, "", 5)}, 30, at(1).Add(ReportedFor), true},
		"reported a day ago":      {[]Asked{ask(0, AskReported, 1)}, 24*60 + 1, at(9), false},
		"a yes does not undo one": {[]Asked{ask(0, AskReported, 2), ask(0, AskAllowed, 3)}, 4, at(2).Add(ReportedFor), true},
	} {
		if got, reported := AskAgain(c.all, "cli_1", at(c.now)); !got.Equal(c.want) || reported != c.reported {
			t.Errorf("%s: %v %t, want %v %t", name, got, reported, c.want, c.reported)
		}
	}
	for name, c := range map[string]struct {
		all  []Asked
		now  int
		want time.Time
	}{
		"never asked":          {nil, 0, time.Time{}},
		"two":                  {[]Asked{ask(0, "", 5), ask(1, AskDenied, 2)}, 2, time.Time{}},
		"three":                {[]Asked{ask(2, "", 7), ask(0, AskReported, 1), other}, 3, at(15)},
		"three, over":          {[]Asked{ask(0, "", 5), ask(1, "", 6), ask(1, AskMistyped, 2)}, 14, at(15)},
		"the first long ago":   {[]Asked{ask(0, "", 5), ask(1, "", 6), ask(1, AskDenied, 2)}, 15, time.Time{}},
		"one of three allowed": {[]Asked{ask(0, AskAllowed, 5), ask(1, "", 6), ask(1, AskDenied, 2)}, 6, time.Time{}},
		"four":                 {[]Asked{ask(0, "", 5), ask(1, "", 6), ask(2, "", 7), ask(3, "", 8)}, 4, at(16)},
	} {
		if got := Room(c.all, at(c.now)); !got.Equal(c.want) {
			t.Errorf("%s: room at %v, want %v", name, got, c.want)
		}
	}
}
