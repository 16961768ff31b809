// Assembles container images from files of this machine into one archive that container runtimes import. Images that list the
// same files share the layer. The recipe comes as JSON on the standard input.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

type recipe struct {
	// Where the archive is to be.
	Archive      string  `json:"archive"`
	Architecture string  `json:"architecture"`
	Images       []image `json:"images"`
}

type image struct {
	Reference  string   `json:"reference"`
	Entrypoint []string `json:"entrypoint"`
	User       string   `json:"user"`
	// In the order in which they are written.
	Files []file `json:"files"`
}

// file is one of this machine, or a link to another of the image.
type file struct {
	Path   string `json:"path"`
	Source string `json:"source,omitempty"`
	Link   string `json:"link,omitempty"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var wanted recipe
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wanted); err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	layers := map[string]v1.Layer{}
	images := map[name.Tag]v1.Image{}
	for _, one := range wanted.Images {
		tag, err := name.NewTag(one.Reference, name.StrictValidation)
		if err != nil {
			return err
		}
		if images[tag], err = assemble(one, wanted.Architecture, layers); err != nil {
			return fmt.Errorf("%s: %w", one.Reference, err)
		}
	}
	return tarball.MultiWriteToFile(wanted.Archive, images)
}

func assemble(wanted image, architecture string, layers map[string]v1.Layer) (v1.Image, error) {
	layer, err := layerOf(wanted.Files, layers)
	if err != nil {
		return nil, err
	}
	assembled, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := assembled.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Config = v1.Config{
		Entrypoint: wanted.Entrypoint,
		User:       wanted.User,
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	return mutate.ConfigFile(assembled, config)
}

func layerOf(files []file, layers map[string]v1.Layer) (v1.Layer, error) {
	key, err := json.Marshal(files)
	if err != nil {
		return nil, err
	}
	if layer, made := layers[string(key)]; made {
		return layer, nil
	}
	content, err := pack(files)
	if err != nil {
		return nil, err
	}
	// What is compressed reaches a node sooner, and takes less room in its store.
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithCompression(compression.ZStd),
		tarball.WithMediaType(types.OCILayerZStd), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	layers[string(key)] = layer
	return layer, nil
}

func pack(files []file) ([]byte, error) {
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	var folders []string
	for _, one := range files {
		if err := errors.Join(writeFolders(writer, path.Dir(one.Path), &folders), writeFile(writer, one)); err != nil {
			return nil, fmt.Errorf("%s: %w", one.Path, err)
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

func writeFolders(writer *tar.Writer, folder string, written *[]string) error {
	if folder == "/" || slices.Contains(*written, folder) {
		return nil
	}
	if err := writeFolders(writer, path.Dir(folder), written); err != nil {
		return err
	}
	*written = append(*written, folder)
	return writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder[1:] + "/", Mode: 0o755})
}

func writeFile(writer *tar.Writer, one file) error {
	if one.Link != "" {
		return writer.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: one.Path[1:], Linkname: one.Link, Mode: 0o777})
	}
	content, err := os.ReadFile(one.Source)
	if err != nil {
		return err
	}
	mode, err := modeOf(one.Source)
	if err != nil {
		return err
	}
	if err := writer.WriteHeader(&tar.Header{Name: one.Path[1:], Size: int64(len(content)), Mode: mode}); err != nil {
		return err
	}
	_, err = writer.Write(content)
	return err
}

// modeOf is the same on every machine, whatever its umask is.
func modeOf(file string) (int64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	if info.Mode()&0o100 != 0 {
		return 0o755, nil
	}
	return 0o644, nil
}
