package server

import (
	"testing"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/resource"
)

// TestServersOfAnOlderRelease: who serves a resource that was written without the index is
// found from the next start on, and an index that says too much gives nothing.
func TestServersOfAnOlderRelease(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, s *Server, exec func(string)) {
		v := resource.Resource{ID: id.New(id.Resource), URI: "https://api.example.com", Name: "API", Servers: []string{"cli_a"}, CreatedAt: s.now()}
		check(t, s.Seed(t.Context(), audit.ResourceCreated, resource.Create{Resource: v}))
		found := func(client string, want int) {
			t.Helper()
			list, err := s.Store.ServedBy(t.Context(), client)
			if check(t, err); len(list) != want {
				t.Errorf("%s serves %v", client, list)
			}
		}
		found("cli_a", 1)
		exec(`DELETE FROM resource_server`)
		exec(`INSERT INTO resource_server (client, resource) VALUES ('cli_b', '` + v.ID + `')`)
		found("cli_a", 0)
		check(t, s.builtIns(t.Context()))
		found("cli_a", 1)
		found("cli_b", 0)
	})
}
