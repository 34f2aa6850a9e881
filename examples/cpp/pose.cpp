// Pose estimation in one image with OpenVINO in C++, without other libraries. docs/deploying.md explains each step.
//
//   pose MODEL.xml IMAGE.ppm [KEYPOINTS VALUES] [CONF IOU]
//
// MODEL is exported by `yolo export format=openvino` (with or without nms=True, fixed input size), IMAGE a binary PPM,
// KEYPOINTS and VALUES the network's kpt_shape (17 3). Prints one line per detection: x1 y1 x2 y2 score class, then its
// keypoints, all in pixels of the image.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>
#include <vector>

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

Image read_ppm(const std::string& path) {
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

Letterbox fit(const Image& image, int height, int width) {
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
void fill(float* planes, int height, int width, const Image& image, const Letterbox& box) {
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

float box_iou(const Detection& a, const Detection& b) {
    const float width = std::min(a.box[2], b.box[2]) - std::max(a.box[0], b.box[0]);
    const float height = std::min(a.box[3], b.box[3]) - std::max(a.box[1], b.box[1]);
    const float intersection = std::max(0.f, width) * std::max(0.f, height);
    const auto area = [](const Detection& o) { return (o.box[2] - o.box[0]) * (o.box[3] - o.box[1]); };
    return intersection / (area(a) + area(b) - intersection);
}

// (4+nc+K·D, anchors): center, size, class scores, keypoints. Keeps scores above conf, then applies NMS.
std::vector<Detection> decode(const float* raw, int channels, int anchors, int values, float conf, float iou) {
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
std::vector<Detection> read_rows(const float* raw, int rows, int values, float conf) {
    std::vector<Detection> detections;
    for (int i = 0; i < rows; ++i, raw += 6 + values)
        if (raw[4] > conf)
            detections.push_back({{raw[0], raw[1], raw[2], raw[3]}, raw[4], int(raw[5]), {raw + 6, raw + 6 + values}});
    return detections;
}

int run(int count, char** arguments) {
    if (count < 3) throw std::runtime_error("usage: pose MODEL.xml IMAGE.ppm [KEYPOINTS VALUES] [CONF IOU]");
    const int keypoints = count > 4 ? std::atoi(arguments[3]) : 17, dims = count > 4 ? std::atoi(arguments[4]) : 3;
    const float conf = count > 6 ? std::atof(arguments[5]) : 0.25f, iou = count > 6 ? std::atof(arguments[6]) : 0.7f;
    const Image image = read_ppm(arguments[2]);

    ov::Core core;
    auto model = core.read_model(arguments[1]);
    if (model->is_dynamic())
        throw std::runtime_error("This example supports files with a fixed input size (dynamic=False) only.");
    // without the hint, CPUs with bfloat16 compute in it
    auto network = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = network.create_infer_request();
    ov::Tensor input = request.get_input_tensor();
    const int height = int(input.get_shape()[2]), width = int(input.get_shape()[3]);
    const Letterbox box = fit(image, height, width);
    fill(input.data<float>(), height, width, image, box);
    request.infer();

    const ov::Tensor output = request.get_output_tensor();
    const ov::Shape shape = output.get_shape();
    const int values = keypoints * dims;
    const bool has_nms = int(shape[2]) == 6 + values;
    if (!has_nms && int(shape[1]) <= 4 + values) throw std::runtime_error("The output does not fit this kpt_shape.");
    const float* raw = output.data<const float>();
    const auto detections = has_nms ? read_rows(raw, int(shape[1]), values, conf)
                               : decode(raw, int(shape[1]), int(shape[2]), values, conf, iou);
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
    return 0;
}

int main(int count, char** arguments) {
    try {
        return run(count, arguments);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
}
