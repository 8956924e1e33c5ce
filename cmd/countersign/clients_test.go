package main

import (
	"encoding/json"
	"net/http"
	"slices"
)

// unregistered answers what the server answers about clients that nobody
// registered. The lock is held.
func (i *issuer) unregistered(w http.ResponseWriter, r *http.Request, noun string) {
	var in map[string]any
	if r.Method == http.MethodPut {
		_ = json.NewDecoder(r.Body).Decode(&in)
	}
	switch r.Method + " " + noun {
	case "GET clients":
		answer(w, 200, map[string]any{"items": append(slices.Clone(i.objects["clients"]), []map[string]any{
			{"id": "cli_1", "client_id": "board", "name": "Board", "managed_by": "apply", "state": "active"},
			{"id": "cli_2", "client_id": "https://editor.example.com/c", "name": "Editor", "managed_by": "document", "group": "editor.example.com", "state": "active"},
			{"id": "cli_3", "client_id": "dyn_x", "name": "Inspector\x1b[31m", "managed_by": "dynamic", "group": "fingerprint", "state": "disabled"},
		}...)})
	case "GET client-admission":
		answer(w, 200, map[string]any{"metadata_documents": "off", "dynamic_registration": false, "resources": []string{}, "scopes": []string{"notes:read"}})
	case "PUT client-admission":
		b, _ := json.Marshal(in)
		i.counts["admit "+string(b)]++
		answer(w, 200, in)
	case "GET client-rules":
		answer(w, 200, map[string]any{"items": []map[string]any{{"kind": "domain", "group": "editor.example.com", "trust": "allowed"}}})
	case "PUT client-rules":
		i.counts["rule_"+in["kind"].(string)+"_"+in["group"].(string)+"_"+in["trust"].(string)]++
		answer(w, 200, in)
	case "GET client-documents":
		answer(w, 200, map[string]any{"items": []map[string]any{{"client_id": "https://editor.example.com/c", "name": "Editor"}}})
	case "PUT client-documents":
		i.counts["pin"]++
		answer(w, 200, map[string]any{"client_id": in["document"].(map[string]any)["client_id"], "name": "Editor"})
	case "DELETE clients":
		i.counts["ended"]++
		w.WriteHeader(204)
	case "DELETE client-documents":
		i.counts["unpin_"+r.URL.Query().Get("client_id")]++
		w.WriteHeader(204)
	}
}
