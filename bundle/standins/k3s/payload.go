package main

import (
	"archive/zip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// links are the names under which one carried file serves as several programs.
var links = map[string][]string{
	"kubernetes": {"etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"},
}

// programs is the folder of the carried programs.
type programs string

func (p programs) path(name string) string { return filepath.Join(string(p), name) }

// unpack writes the carried programs beside k3s's data, unless they are there.
func unpack() (programs, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	archive, err := zip.OpenReader(self)
	if err != nil {
		return "", fmt.Errorf("%s carries no programs: %w", self, err)
	}
	defer archive.Close()
	archive.RegisterDecompressor(zstd.ZipMethodWinZip, zstd.ZipDecompressor())

	folder := filepath.Join(dataFolder, "data", identity(archive.File), "bin")
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		return programs(folder), err
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return "", err
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(folder), ".bin-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(unfinished)
	if err := unpackInto(unfinished, archive.File); err != nil {
		return "", err
	}
	// Another process may have been faster, with the same content.
	if err := os.Rename(unfinished, folder); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return programs(folder), nil
}

func unpackInto(folder string, files []*zip.File) error {
	if err := os.Chmod(folder, 0o755); err != nil {
		return err
	}
	var group errgroup.Group
	for _, file := range files {
		group.Go(func() error { return unpackFile(filepath.Join(folder, filepath.Base(file.Name)), file) })
	}
	for target, names := range links {
		for _, name := range names {
			if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
				return err
			}
		}
	}
	return group.Wait()
}

func unpackFile(path string, file *zip.File) error {
	content, err := file.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	unpacked, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(unpacked, content)
	return errors.Join(err, unpacked.Close())
}

// identity tells one payload from another without reading it.
func identity(files []*zip.File) string {
	digest := sha256.New()
	for _, file := range files {
		fmt.Fprintln(digest, file.Name, file.CRC32, file.UncompressedSize64)
	}
	return fmt.Sprintf("%x", digest.Sum(nil))
}
