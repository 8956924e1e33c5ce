package admin_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/countersign-dev/countersign/internal/admin"
	"github.com/countersign-dev/countersign/internal/web"
)

// TestProofsAtAnotherReplica: a DPoP proof that changed something changes nothing
// again, at another replica either or after a restart, whose memory is empty.
func TestProofsAtAnotherReplica(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.person("dana", r.admins.ID)
	l := r.login(dana, admin.ScopeSelf+" "+admin.ScopeRead+" "+admin.ScopeWrite)
	api, err := admin.New(r.api.Config)
	r.ok(err)
	mux := http.NewServeMux()
	api.Mount(mux)
	second := httptest.NewServer(web.Recorder{Log: discard}.Wrap(mux))
	defer second.Close()
	body := map[string]any{"name": "release"}
	first := l.request("POST", "/v1/groups", body)
	proof := first.Header.Get("DPoP")
	r.want(r.send(first), 201, "")
	use := func(name, proof string) answer {
		req := l.request("POST", "/v1/groups", map[string]any{"name": name})
		req.Header.Set("DPoP", proof)
		to, err := http.NewRequest("POST", second.URL+"/v1/groups", req.Body)
		r.ok(err)
		to.Header = req.Header
		return r.send(to)
	}
	r.want(use("captured", proof), 401, "invalid_dpop_proof")
	groups, err := r.store.Groups(t.Context(), "", 100)
	r.ok(err)
	for _, g := range groups {
		if g.Name == "captured" {
			t.Error("a captured proof made a group")
		}
	}
	r.want(use("own", l.request("POST", "/v1/groups", body).Header.Get("DPoP")), 201, "") // a proof of its own works there
}
