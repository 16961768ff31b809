package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const cgroupFolder = "/sys/fs/cgroup"

// mountControllers mounts every cgroup v1 hierarchy where kubelet and runc look for it. systemd expects cpu and cpuacct
// joined, and mounts neither where the kernel has them apart. Where cgroups are v2 there is nothing to do.
func mountControllers() error {
	membership, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	hierarchies := hierarchiesOf(string(membership))
	if !slices.ContainsFunc(hierarchies, func(name string) bool {
		return !strings.Contains(string(mounts), " "+filepath.Join(cgroupFolder, folderOf(name))+" ")
	}) {
		return nil
	}
	// The container may not change its own mount, but it may lay another over it.
	const fresh = "/run/k3s/cgroup"
	if err := os.MkdirAll(fresh, 0o755); err != nil {
		return err
	}
	if err := mount("tmpfs", fresh, "mode=755"); err != nil {
		return err
	}
	for _, name := range hierarchies {
		options := name
		if strings.HasPrefix(name, "name=") {
			options = "none," + name
		}
		if err := mount("cgroup", filepath.Join(fresh, folderOf(name)), options); err != nil {
			return err
		}
	}
	if err := mount("cgroup2", filepath.Join(fresh, "unified"), ""); err != nil {
		return err
	}
	if err := syscall.Mount(fresh, cgroupFolder, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", cgroupFolder, err)
	}
	return nil
}

// hierarchiesOf are the names of the cgroup v1 hierarchies that a process is in; v2's has none.
func hierarchiesOf(membership string) []string {
	var names []string
	for line := range strings.Lines(membership) {
		if fields := strings.SplitN(line, ":", 3); len(fields) == 3 && fields[1] != "" {
			names = append(names, fields[1])
		}
	}
	return names
}

func folderOf(hierarchy string) string { return strings.TrimPrefix(hierarchy, "name=") }

func mount(kind, folder, options string) error {
	err := os.Mkdir(folder, 0o755)
	if err == nil || errors.Is(err, os.ErrExist) {
		err = syscall.Mount(kind, folder, kind, 0, options)
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", folder, err)
	}
	return nil
}
