package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestACertificateIsKeptAsLongAsItSaysTheSame(t *testing.T) {
	folder := t.TempDir()
	server := subject{name: "kube-apiserver", names: []string{"localhost"}, addresses: []netip.Addr{netip.MustParseAddr("10.77.0.5")}}
	moved := server
	moved.addresses = []netip.Addr{netip.MustParseAddr("10.77.0.6")}
	issued := func(whom subject) string {
		t.Helper()
		// Opened anew, as after a restart.
		ca, err := openAuthority(folder, "server-ca")
		if err != nil {
			t.Fatal(err)
		}
		if err := ca.issue("server", whom); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(folder, "server.crt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	first := issued(server)
	if issued(server) != first {
		t.Error("the same certificate was issued anew")
	}
	second := issued(moved)
	if second == first {
		t.Error("the certificate of another address was kept")
	}
	if err := os.Remove(filepath.Join(folder, "server.key")); err != nil {
		t.Fatal(err)
	}
	if issued(moved) == second {
		t.Error("a certificate without its key was kept")
	}
}
