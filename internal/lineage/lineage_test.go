package lineage

import (
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
)

func seq(n int, start byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = start + byte(i)
	}
	return b
}

// TestVector is the lineage vector of mechanisms, appendix 1.
func TestVector(t *testing.T) {
	k, err := AudienceKey(seq(32, 0x80), "https://api.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(k); got != "7e557c1f3a44d05caf99992505fdc60ce9ee804a2b765b6de3db5d76bbfc80e3" {
		t.Errorf("K_aud = %s", got)
	}
	if got := Handle(k, Person, [16]byte(seq(16, 0x10))); got != "tt2XKqiTyk9K" {
		t.Errorf("handle = %s", got)
	}
}

func TestHandles(t *testing.T) {
	a, _ := AudienceKey(seq(32, 1), "https://a.example")
	b, _ := AudienceKey(seq(32, 1), "https://b.example")
	var nodes []Node
	for i := range 8 {
		nodes = append(nodes, Node{ID: id.New(id.Grant), Kind: Kind(8 - i)})
	}
	nodes = append(nodes, nodes[0])
	ha, err := Handles(a, nodes)
	if err != nil {
		t.Fatal(err)
	}
	if len(ha) != 8 {
		t.Errorf("a node twice gives %d handles, want 8", len(ha))
	}
	hb, _ := Handles(b, nodes)
	for _, h := range ha {
		if slices.Contains(hb, h) {
			t.Errorf("two audiences share the handle %s", h)
		}
		if len(h) != 12 {
			t.Errorf("handle %q is not 12 characters", h)
		}
	}
	nodes = append(nodes, Node{ID: id.New(id.Resource), Kind: Resource}, Node{ID: id.New(id.Group), Kind: Group})
	if got, _ := Handles(a, nodes); len(got) != 8 {
		t.Errorf("things without a handle are in lin: %v", got)
	}
	for i := range 17 {
		nodes = append(nodes, Node{ID: id.New(id.Grant), Kind: Kind(1 + i%14)})
	}
	if got, err := Handles(a, nodes); problem.CodeOf(err) != "lineage_too_deep" || got != nil {
		t.Errorf("25 nodes: %v, %v", got, err)
	}
	if got, err := Handles(a, []Node{{ID: "nonsense", Kind: Person}}); problem.CodeOf(err) != "lineage_id" || got != nil {
		t.Errorf("a bad id: %v, %v", got, err)
	}
}

func TestFirstEnded(t *testing.T) {
	live := Node{ID: "a"}
	ended := Node{ID: "b", EndedAt: time.Unix(1, 0)}
	frozen := Node{ID: "c", FrozenAt: time.Unix(1, 0)}
	for _, c := range []struct {
		in   []Node
		want string
	}{
		{nil, ""}, {[]Node{live}, ""}, {[]Node{live, ended, frozen}, "b"}, {[]Node{live, frozen}, "c"},
	} {
		n, ok := FirstEnded(c.in)
		if n.ID != c.want || ok != (c.want != "") {
			t.Errorf("FirstEnded(%v) = %q, %v", c.in, n.ID, ok)
		}
	}
	if fmt.Sprint(Approval, Kind(99), Group, Resource) != "approval unknown group resource" {
		t.Error(Approval, Kind(99), Group, Resource)
	}
}
