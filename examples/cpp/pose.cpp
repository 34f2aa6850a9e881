// Pose estimation in one image with OpenVINO in C++. docs/deploying.md explains each step.
//
//   pose MODEL.xml IMAGE.ppm [KEYPOINTS VALUES] [CONF IOU]
//
// MODEL is exported by `yolo export format=openvino` (with or without nms=True, fixed input size), IMAGE a binary PPM,
// KEYPOINTS and VALUES the network's kpt_shape (17 3). Prints one line per detection: x1 y1 x2 y2 score class, then its
// keypoints, all in pixels of the image.
#include "pose.hpp"

#include <openvino/openvino.hpp>

void run(const Options& options) {
    const Image image = read_ppm(options.image);
    ov::Core core;
    auto model = core.read_model(options.model);
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
    print_detections(output.data<const float>(), int(shape[1]), int(shape[2]), options, box, image);
}

int main(int count, char** arguments) {
    return report_errors([&] { run(read_options(count, arguments)); });
}
