package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRunMeasuresTheFloor runs every workload of the floor for a moment.
func TestRunMeasuresTheFloor(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("processor time is read from /proc")
	}
	t.Chdir("..")
	out := filepath.Join(t.TempDir(), "result.json")
	p := plan{connections: []int{4}, limit: time.Minute, slice: 100 * time.Millisecond, floorOnly: true}
	for _, w := range workloads {
		if w != firstIntrospect && w != firstUserinfo { // their pools take longer than a moment
			p.workloads = append(p.workloads, w)
		}
	}
	if err := run(t.Context(), p, out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var rows []figures
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range rows {
		seen[r.Workload+" / "+r.Store] = true
		if r.Rate <= 0 || r.P99 < r.P50 || r.P50 <= 0 || r.RSS <= 0 {
			t.Errorf("%+v", r)
		}
		if r.Store == floorOf[r.Workload] && r.FloorCPU > 0 && r.Ratio != 1 {
			t.Errorf("the floor is not compared to itself: %+v", r)
		}
	}
	for _, w := range p.workloads {
		for _, store := range []string{"floor-memory", "floor-sqlite"} {
			if !seen[w+" / "+store] {
				t.Errorf("no figures for %s on %s", w, store)
			}
		}
	}
}

func TestWrongAnswersAreNoFigures(t *testing.T) {
	for name, wrong := range map[string]error{
		"refused token":   func() error { _, err := readToken(401, []byte(`{"error":"invalid_client"}`)); return err }(),
		"opaque token":    func() error { _, err := readToken(200, []byte(`{"access_token":"x"}`)); return err }(),
		"inactive token":  active(200, []byte(`{"active":false}`)),
		"nobody":          described(200, []byte(`{"name":"x"}`)),
		"same refresh":    (&refreshExchange{token: "r"}).Answer(200, nil, []byte(`{"access_token":"a.b.c","refresh_token":"r"}`)),
		"other document":  (&staticExchange{size: 3}).Answer(200, nil, []byte(`{}`)),
		"an error's page": (&staticExchange{}).Answer(200, nil, []byte(`<html>`)),
	} {
		if wrong == nil {
			t.Errorf("%s counts as an answer", name)
		}
	}
}
