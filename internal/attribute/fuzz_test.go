package attribute

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzTake: whatever is said, it is taken whole as it is declared, or not at all; and what
// was taken is the same after it was kept.
func FuzzTake(f *testing.F) {
	f.Add([]byte(`{"environment":"production","size":12,"frozen":false,"labels":["b","a","a"],"other":{"x":[null]}}`))
	f.Add([]byte(`{"environment":"","size":-9007199254740991,"frozen":true,"labels":[]}`))
	f.Add([]byte(`{"environment":5,"size":"5","frozen":null,"labels":[5]}`))
	f.Add([]byte(`[]`))
	types := Types{"environment": String, "size": Long, "frozen": Bool, "labels": Set}
	f.Fuzz(func(t *testing.T, text []byte) {
		said, err := Read(text)
		if err != nil {
			return
		}
		v, err := types.Take(said)
		if (err == nil) != (v != nil) || (err == nil) != (types.Lacks(v) == "") {
			t.Fatalf("%q: %v, %v", text, v, err)
		}
		if err != nil {
			return
		}
		kept, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var again Values
		if err := json.Unmarshal(kept, &again); err != nil || !reflect.DeepEqual(again, v) || len(kept) > 8*MaxBytes {
			t.Fatalf("%q: %s, %v, %v", text, kept, again, err)
		}
		if twice, err := types.Take(v); err != nil || !reflect.DeepEqual(twice, v) {
			t.Fatalf("%q: %v, %v", text, twice, err)
		}
	})
}
