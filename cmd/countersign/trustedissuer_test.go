package main

import (
	"encoding/json"
	"net/http"
)

// subjects answers what the server answers about an issuer's subjects.
func (i *issuer) subjects(w http.ResponseWriter, r *http.Request, id string) {
	switch r.Method {
	case "GET":
		answer(w, 200, map[string]any{"items": []map[string]any{{"id": "lnk_1", "subject": "8f14e45f", "person": "usr_1"}, {"id": "lnk_2", "subject": "8f14e45f", "tenant": "t2", "person": "usr_2"}}})
	case "POST":
		var in struct{ Subject, Tenant, Person string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		i.counts["linked_"+in.Subject+"_"+in.Tenant+"_"+in.Person]++
		answer(w, 201, map[string]any{"id": "lnk_3"})
	case "DELETE":
		i.counts["unlinked_"+id]++
		w.WriteHeader(204)
	}
}
