package attribute

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

type env string

// TestTake: every type, from what Go, JSON and YAML make of it, and what is none.
func TestTake(t *testing.T) {
	long := strings.Repeat("x", MaxText)
	for _, c := range []struct {
		is   Type
		said any
		want any    // nil: refused
		says string // why
	}{
		{String, "a", "a", ""},
		{String, "", "", ""},
		{String, env("a"), "a", ""},
		{String, long, long, ""},
		{String, long + "x", nil, "512 bytes"},
		{String, "a\x00", nil, "NUL"},
		{String, "\xff", nil, "UTF-8"},
		{String, 1, nil, "is not a String"},
		{String, json.Number("1"), nil, "is not a String"},
		{String, nil, nil, "is not a String"},
		{String, []string{"a"}, nil, "is not a String"},
		{Long, int64(-3), int64(-3), ""},
		{Long, 3, int64(3), ""},
		{Long, uint8(3), int64(3), ""},
		{Long, json.Number("12"), int64(12), ""},
		{Long, json.Number("1.5"), nil, "is not a Long"},
		{Long, 1.0, nil, "is not a Long"},
		{Long, "3", nil, "is not a Long"},
		{Long, nil, nil, "is not a Long"},
		{Long, int64(MaxLong), int64(MaxLong), ""},
		{Long, int64(MaxLong) + 1, nil, "beyond"},
		{Long, uint64(math.MaxUint64), nil, "beyond"},
		{Long, int64(math.MinInt64), nil, "beyond"},
		{Bool, true, true, ""},
		{Bool, "true", nil, "is not a Bool"},
		{Bool, nil, nil, "is not a Bool"},
		{Set, []string{"b", "a", "b"}, []string{"a", "b"}, ""},
		{Set, []any{"b", "a"}, []string{"a", "b"}, ""},
		{Set, []env{"b"}, []string{"b"}, ""},
		{Set, []string{}, []string{}, ""},
		{Set, []any{1}, nil, "is not a Set<String>"},
		{Set, []any{nil}, nil, "is not a Set<String>"},
		{Set, []string{"\x00"}, nil, "NUL"},
		{Set, make([]string, MaxElements+1), nil, "64 elements"},
		{Set, "a", nil, "is not a Set<String>"},
		{Set, nil, nil, "is not a Set<String>"},
		{Type("Duration"), "1h", nil, "is not a"},
	} {
		types := Types{"a": c.is}
		got, err := types.Take(map[string]any{"a": c.said, "other": 1.5})
		if c.want == nil {
			if err == nil || got != nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "a ") {
				t.Errorf("%s of %v: %v, %v", c.is, c.said, got, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, Values{"a": c.want}) || types.Lacks(got) != "" {
			t.Errorf("%s of %v: %v, %v", c.is, c.said, got, err)
		}
	}
	if v, err := Types(nil).Take(map[string]any{"a": 1.5}); v != nil || err != nil {
		t.Errorf("nothing is declared: %v, %v", v, err)
	}
	if _, err := (Types{"b": String, "a": Long}).Take(nil); err == nil || err.Error() != "a is missing; it is a Long" {
		t.Errorf("%v", err)
	}
	texts := make([]string, 9)
	for i := range texts {
		texts[i] = strings.Repeat(string(rune('a'+i)), MaxText)
	}
	if _, err := (Types{"a": Set}).Take(map[string]any{"a": texts}); err == nil || !strings.Contains(err.Error(), "4096") {
		t.Errorf("%v", err)
	}
}

// TestValuesAsJSON: values are read as they are written, and nothing else is.
func TestValuesAsJSON(t *testing.T) {
	all := Values{"a": []string{"x", "y"}, "b": true, "c": int64(-MaxLong), "d": "1", "e": []string{}}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	var got Values
	if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("%s: %v, %v", text, got, err)
	}
	for _, text := range []string{`{"a":1.5}`, `{"a":null}`, `{"a":{}}`, `{"a":[1]}`, `[]`, `{"a":9007199254740992}`} {
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestLacks: a value of another type, or none, is no value; and the least value is one.
func TestLacks(t *testing.T) {
	types := Types{"d": String, "c": Long, "b": Bool, "a": Set}
	all := Values{}
	for n, is := range types {
		all[n] = is.Zero()
	}
	if n := types.Lacks(all); n != "" {
		t.Errorf("%s", n)
	}
	for n := range types {
		for _, v := range []any{nil, 1.5, 1, struct{}{}} {
			spoilt := Values{}
			for m := range all {
				spoilt[m] = all[m]
			}
			spoilt[n] = v
			if types.Lacks(spoilt) != n {
				t.Errorf("%s is %v, and nothing is lacking", n, v)
			}
		}
	}
	if got := types.Fit(Values{"c": int64(5), "d": int64(5), "e": true}); !reflect.DeepEqual(got, Values{"a": []string{}, "b": false, "c": int64(5), "d": ""}) || Types(nil).Fit(all) != nil {
		t.Errorf("%v", got)
	}
	if got := types.With(Types{"d": Long, "e": Bool}); !reflect.DeepEqual(got, Types{"a": Set, "b": Bool, "c": Long, "d": Long, "e": Bool}) || len(types) != 4 || len(Types(nil).With(types)) != 4 {
		t.Errorf("%v", got)
	}
	if types.Lacks(nil) != "a" || Types(nil).Lacks(nil) != "" || Type("Duration").Has("1h") {
		t.Error("what is lacking is not said")
	}
	for n, want := range map[string]bool{"a": true, "_a1": true, "": false, "1a": false, "a.b": false, "a b": false, strings.Repeat("a", 65): false} {
		if Good(n) != want {
			t.Errorf("%q: %v", n, !want)
		}
	}
}
