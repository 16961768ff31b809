package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"
)

// How long Helm is given for a question, which waits for nothing in the cluster.
const patience = time.Minute

// How long Helm is given to end by itself once it was told to.
const farewell = 10 * time.Second

var (
	errNoRelease = errors.New("there is no such release")
	errNoCluster = errors.New("the provider's cluster is not known: set kubernetes.config_path or kubernetes.host")
)

// helm runs the program, with a kubeconfig of its own that is gone afterwards.
type helm struct {
	cluster *connection
}

// status of a release, as `helm status` and `helm list` say it.
type status struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Revision  int64  `json:"version"`
	Info      struct {
		Status string `json:"status"`
	} `json:"info"`
}

func (h helm) status(ctx context.Context, name, namespace string) (status, error) {
	var found status
	printed, err := h.run(ctx, patience, nil, "status", name, "--namespace", namespace, "--output", "json")
	if err != nil {
		if strings.Contains(err.Error(), "release: not found") {
			return found, errNoRelease
		}
		return found, err
	}
	return found, json.Unmarshal(printed, &found)
}

// chart of a release: its version.
func (h helm) chart(ctx context.Context, name, namespace string) (string, error) {
	printed, err := h.run(ctx, patience, nil, "get", "metadata", name, "--namespace", namespace, "--output", "json")
	if err != nil {
		return "", err
	}
	var metadata struct {
		Version string `json:"version"`
	}
	return metadata.Version, json.Unmarshal(printed, &metadata)
}

// run gives what Helm prints. Values go through files, so that no command line shows them.
func (h helm) run(ctx context.Context, limit time.Duration, values []string, arguments ...string) ([]byte, error) {
	folder, err := os.MkdirTemp("", "terraform-provider-helm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	kubeconfig, err := h.kubeconfig(folder)
	if err != nil {
		return nil, err
	}
	arguments = append(arguments, "--kubeconfig", kubeconfig)
	for number, text := range values {
		path := filepath.Join(folder, fmt.Sprintf("values-%d.yaml", number))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
		arguments = append(arguments, "--values", path)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	command := exec.CommandContext(ctx, "helm", arguments...)
	// Told to end, Helm marks the release as failed; killed, it would leave it pending.
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = farewell
	var said bytes.Buffer
	command.Stderr = &said
	printed, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("helm %s: %w: %s", arguments[0], err, strings.TrimSpace(said.String()))
	}
	return printed, nil
}

func (h helm) kubeconfig(folder string) (string, error) {
	if h.cluster == nil {
		return "", errNoCluster
	}
	if path := h.cluster.ConfigPath.ValueString(); path != "" {
		return path, nil
	}
	if h.cluster.Host.ValueString() == "" {
		return "", errNoCluster
	}
	text, err := yaml.Marshal(h.cluster.document())
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "kubeconfig")
	return path, os.WriteFile(path, text, 0o600)
}

// document is a kubeconfig of this cluster alone.
func (c connection) document() map[string]any {
	cluster := map[string]any{"server": c.Host.ValueString(), "certificate-authority-data": []byte(c.CA.ValueString())}
	if name := c.TLSServerName.ValueString(); name != "" {
		cluster["tls-server-name"] = name
	}
	user := map[string]any{
		"client-certificate-data": []byte(c.Certificate.ValueString()),
		"client-key-data":         []byte(c.Key.ValueString()),
	}
	return map[string]any{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "this",
		"contexts":        []any{map[string]any{"name": "this", "context": map[string]any{"cluster": "this", "user": "this"}}},
		"clusters":        []any{map[string]any{"name": "this", "cluster": cluster}},
		"users":           []any{map[string]any{"name": "this", "user": user}},
	}
}
