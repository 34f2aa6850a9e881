// Pose estimation without a library: letterbox, decoding of the output, NMS. docs/deploying.md explains each step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Options {  // arguments: MODEL IMAGE.ppm [KEYPOINTS VALUES] [CONF IOU]
    std::string model, image;
    int keypoints = 17, dims = 3;  // kpt_shape of the network
    float conf = 0.25f, iou = 0.7f;
};

struct Image {
    int height = 0, width = 0;
    std::vector<unsigned char> rgb;
};

struct Letterbox {  // position and scale of the image in the input
    int height, width, top, left;
    float gain_x, gain_y;
};

struct Detection {
    float box[4], score;
    int label;
    std::vector<float> points;
};

inline Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    int max_value = 0;
    Image image;
    file >> kind >> image.width >> image.height >> max_value;
    file.get();  // one whitespace character precedes the pixels
    if (!file || kind != "P6" || max_value != 255)
        throw std::runtime_error(path + " is not a binary 8-bit PPM (P6, 255).");
    image.rgb.resize(size_t(3) * image.height * image.width);
    if (!file.read(reinterpret_cast<char*>(image.rgb.data()), image.rgb.size()))
        throw std::runtime_error(path + " is truncated.");
    return image;
}

inline Letterbox fit(const Image& image, int height, int width) {
    const double ratio = std::min(double(height) / image.height, double(width) / image.width);
    Letterbox box;
    box.height = std::max(1, int(std::nearbyint(image.height * ratio)));
    box.width = std::max(1, int(std::nearbyint(image.width * ratio)));
    box.top = int(std::nearbyint((height - box.height) / 2.0 - 0.1));
    box.left = int(std::nearbyint((width - box.width) / 2.0 - 0.1));
    box.gain_x = float(box.width) / image.width;
    box.gain_y = float(box.height) / image.height;
    return box;
}

// RGB planes of 0…1, gray 114 around the image, which is resized bilinearly; pixel centers lie at halves.
inline void fill(float* planes, int height, int width, const Image& image, const Letterbox& box) {
    std::fill(planes, planes + size_t(3) * height * width, 114 / 255.f);
    for (int y = 0; y < box.height; ++y) {
        const float v = std::clamp((y + 0.5f) / box.gain_y - 0.5f, 0.f, image.height - 1.f);
        const int y0 = int(v), y1 = std::min(y0 + 1, image.height - 1);
        for (int x = 0; x < box.width; ++x) {
            const float u = std::clamp((x + 0.5f) / box.gain_x - 0.5f, 0.f, image.width - 1.f);
            const int x0 = int(u), x1 = std::min(x0 + 1, image.width - 1);
            for (int c = 0; c < 3; ++c) {
                const auto at = [&](int row, int column) {
                    return float(image.rgb[(size_t(row) * image.width + column) * 3 + c]);
                };
                const float upper = at(y0, x0) + (u - x0) * (at(y0, x1) - at(y0, x0));
                const float lower = at(y1, x0) + (u - x0) * (at(y1, x1) - at(y1, x0));
                const float value = std::nearbyint(upper + (v - y0) * (lower - upper));
                planes[(size_t(c) * height + box.top + y) * width + box.left + x] = value / 255.f;
            }
        }
    }
}

inline float box_iou(const Detection& a, const Detection& b) {
    const float width = std::min(a.box[2], b.box[2]) - std::max(a.box[0], b.box[0]);
    const float height = std::min(a.box[3], b.box[3]) - std::max(a.box[1], b.box[1]);
    const float intersection = std::max(0.f, width) * std::max(0.f, height);
    const auto area = [](const Detection& o) { return (o.box[2] - o.box[0]) * (o.box[3] - o.box[1]); };
    return intersection / (area(a) + area(b) - intersection);
}

// (4+nc+K·D, anchors): center, size, class scores, keypoints. Keeps scores above conf, then applies NMS.
inline std::vector<Detection> decode(const float* raw, int channels, int anchors, int values, float conf, float iou) {
    const int classes = channels - 4 - values;
    std::vector<Detection> candidates, kept;
    for (int i = 0; i < anchors; ++i) {
        const auto at = [&](int channel) { return raw[size_t(channel) * anchors + i]; };
        Detection detection{{}, conf, -1, {}};
        for (int c = 0; c < classes; ++c)
            if (at(4 + c) > detection.score) detection.score = at(4 + c), detection.label = c;
        if (detection.label < 0) continue;
        for (int side = 0; side < 4; ++side)
            detection.box[side] = at(side % 2) + (side < 2 ? -1 : 1) * at(2 + side % 2) / 2;
        for (int v = 0; v < values; ++v) detection.points.push_back(at(4 + classes + v));
        candidates.push_back(detection);
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Detection& a, const Detection& b) { return a.score > b.score; });
    for (const Detection& detection : candidates)
        if (std::none_of(kept.begin(), kept.end(), [&](const Detection& better) {
                return better.label == detection.label && box_iou(better, detection) > iou;
            }))
            kept.push_back(detection);
    return kept;
}

// (rows, 6+K·D) of a file with nms=True: x1 y1 x2 y2 score class keypoints; rows after the last detection are 0.
inline std::vector<Detection> read_rows(const float* raw, int rows, int values, float conf) {
    std::vector<Detection> detections;
    for (int i = 0; i < rows; ++i, raw += 6 + values)
        if (raw[4] > conf)
            detections.push_back({{raw[0], raw[1], raw[2], raw[3]}, raw[4], int(raw[5]), {raw + 6, raw + 6 + values}});
    return detections;
}

// Reads the output of a file with or without nms=True and prints one line per detection.
inline void print_detections(const float* raw, int rows, int columns, const Options& options, const Letterbox& box,
                      const Image& image) {
    const int keypoints = options.keypoints, dims = options.dims, values = keypoints * dims;
    const bool has_nms = columns == 6 + values;
    if (!has_nms && rows <= 4 + values) throw std::runtime_error("The output does not fit this kpt_shape.");
    const auto detections = has_nms ? read_rows(raw, rows, values, options.conf)
                                    : decode(raw, rows, columns, values, options.conf, options.iou);
    const auto to_image_x = [&](float x) { return std::clamp((x - box.left) / box.gain_x, 0.f, float(image.width)); };
    const auto to_image_y = [&](float y) { return std::clamp((y - box.top) / box.gain_y, 0.f, float(image.height)); };
    for (const Detection& detection : detections) {
        std::printf("%.2f %.2f %.2f %.2f %.4f %d", to_image_x(detection.box[0]), to_image_y(detection.box[1]),
                    to_image_x(detection.box[2]), to_image_y(detection.box[3]), detection.score, detection.label);
        for (int k = 0; k < keypoints; ++k) {
            const float* point = &detection.points[size_t(k) * dims];
            std::printf(" %.2f %.2f", to_image_x(point[0]), to_image_y(point[1]));
            if (dims == 3) std::printf(" %.4f", point[2]);
        }
        std::printf("\n");
    }
}

inline Options read_options(int count, char** arguments) {
    if (count < 3) throw std::runtime_error("usage: pose MODEL IMAGE.ppm [KEYPOINTS VALUES] [CONF IOU]");
    Options options;
    options.model = arguments[1], options.image = arguments[2];
    if (count > 4) options.keypoints = std::atoi(arguments[3]), options.dims = std::atoi(arguments[4]);
    if (count > 6) options.conf = std::atof(arguments[5]), options.iou = std::atof(arguments[6]);
    return options;
}

template <typename Run> int report_errors(Run run) {
    try {
        run();
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
}
